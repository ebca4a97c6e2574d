//! Each layer × {CPU, CUDA} × {f32, f64}: every cell is filled, or says why not; and where both devices have code they agree.

use cortado::blob::Weights;
use cortado::device::Gpu;
use cortado::layers::registry;
use cortado::math::Real;
use cortado::net::Net;
use cortado::proto::read_net;
use cortado::tools::time;

/// Layers that run on the host in a net on a GPU, with the reason.
const ON_HOST: &[(&str, &str)] = &[
    ("Data", "reads files: its tops are the batch that is transferred"),
    ("Flatten", "does nothing: its top is its bottom"),
    ("Input", "does nothing: the user fills its tops"),
    ("Reshape", "does nothing: its top is its bottom"),
];

fn net<T: Real>(name: &str, weights: &mut Weights<T>) -> Net<T> {
    let mut param = read_net(format!("tests/gradients/{name}.prototxt")).unwrap().message;
    param.force_backward = Some(true);
    let mut net = Net::<T>::new(&param, 1, weights).unwrap();
    time::prepare(&mut net, weights);
    net
}

/// How many layers of a type its net has, and how many of them have code for a GPU.
fn count<T: Real>(name: &str) -> (usize, usize) {
    let mut net = net::<T>(name, &mut Weights::new());
    let layers = net.nodes_mut().iter_mut().filter(|n| n.param.r#type() == name);
    layers.fold((0, 0), |(all, device), n| (all + 1, device + usize::from(n.layer.device_code().is_some())))
}

#[test]
fn every_layer_runs_on_a_device_or_says_why_not() {
    let mut wrong = Vec::new();
    println!("{:<18} {:>8} {:>8} {:>8} {:>8}", "layer", "CPU f32", "CPU f64", "GPU f32", "GPU f64");
    for row in registry::LAYERS {
        let excuse = ON_HOST.iter().find(|(name, _)| *name == row.name);
        let cells = [count::<f32>(row.name), count::<f64>(row.name)];
        let say = |(all, device): (usize, usize)| match excuse {
            Some(_) => "host".to_string(),
            None => format!("{device}/{all}"),
        };
        println!("{:<18} {:>8} {:>8} {:>8} {:>8}", row.name, "yes", "yes", say(cells[0]), say(cells[1]));
        for (all, device) in cells {
            assert!(all > 0, "{} is not in its own net", row.name);
            match excuse {
                Some(_) if device > 0 => {
                    wrong.push(format!("{} has device code: its excuse is outdated", row.name))
                }
                None if device == 0 => wrong.push(format!("{} has no device code and no reason", row.name)),
                _ => {}
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Everything that a pass forward and backward leaves: blobs, their gradients, parameters and theirs.
fn results<T: Real>(name: &str, device: Option<&Gpu>) -> Option<Vec<(String, Vec<f64>)>> {
    let mut weights = Weights::<T>::new();
    let mut net = net(name, &mut weights);
    net.set_fusion(false);
    net.set_device(device.cloned(), &mut weights).unwrap();
    net.forward(&mut weights).ok()?; // inputs without sense, as random labels of pairs, are refused on both
    net.fetch(&mut weights).unwrap();
    let given: Vec<usize> = net.outputs();
    for blob in given {
        for (i, d) in net.diff_mut(blob).iter_mut().enumerate() {
            *d = T::from_f64((i * 37 % 11) as f64 / 4.0 - 1.0);
        }
    }
    net.backward(&mut weights).unwrap();
    net.fetch(&mut weights).unwrap();
    let values = |v: &[T]| v.iter().map(|v| v.as_f64()).collect::<Vec<f64>>();
    let mut all = Vec::new();
    for (b, blob) in net.blobs().iter().enumerate() {
        all.push((format!("{} data", blob.name), values(net.data(b))));
        all.push((format!("{} diff", blob.name), values(net.diff(b))));
    }
    for p in weights.iter() {
        all.push((format!("{}/{} data", p.layer, p.index), values(p.data.host())));
        all.push((format!("{}/{} diff", p.layer, p.index), values(p.diff.host())));
    }
    Some(all)
}

fn compare<T: Real>(gpu: &Gpu, tolerance: f64) {
    let mut compared = 0;
    for row in registry::LAYERS {
        let (host, device) = (results::<T>(row.name, None), results::<T>(row.name, Some(gpu)));
        assert_eq!(host.is_some(), device.is_some(), "{}", row.name);
        for ((what, a), (_, b)) in host.into_iter().flatten().zip(device.into_iter().flatten()) {
            assert_eq!(a.len(), b.len(), "{}: {what}", row.name);
            let largest = a.iter().fold(1.0f64, |m, v| m.max(v.abs()));
            for (i, (a, b)) in a.iter().zip(&b).enumerate() {
                let close = (a - b).abs() <= tolerance * largest || a == b || (a.is_nan() && b.is_nan());
                assert!(
                    close,
                    "{} in {}: {what}, element {i}: {a} on the host, {b} on the device",
                    row.name,
                    T::NAME
                );
                compared += 1;
            }
        }
    }
    assert!(compared > 10_000, "only {compared} values");
}

#[test]
fn host_and_device_agree() {
    for cublaslt in [true, false] {
        let Some(gpu) = super::gpu() else { return };
        gpu.set_cublaslt(cublaslt);
        compare::<f64>(&gpu, 1e-11);
        compare::<f32>(&gpu, 1e-4);
    }
}
