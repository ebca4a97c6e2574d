//! Damage at random places, seeded: reading ends in a value or an error, never in a panic.

use crate::golden;
use cortado::proto::binary::{decode, decode_datum};
use cortado::proto::caffe::{NetParameter, SolverState};
use cortado::proto::net::{decode_net, is_binary, upgrade_net_bytes};
use cortado::proto::weights::decode_weights;
use cortado::proto::{parse_net, parse_solver, print, text};
use std::time::{Duration, Instant};

/// A small generator (xorshift64), the same on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit.max(1) as u64) as usize
    }
}

/// Changes, removes, doubles or inserts a few bytes.
fn damage(bytes: &[u8], pieces: &[&[u8]], random: &mut Random) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(out.len());
        let end = (at + random.below(12)).min(out.len());
        match random.below(6) {
            0 => drop(out.drain(at..end)),
            1 => out.extend_from_within(at..end),
            2 => drop(out.splice(at..end, pieces[random.below(pieces.len())].iter().copied())),
            3 => out.truncate(at),
            _ => {
                if let Some(byte) = out.get_mut(at) {
                    *byte = random.below(256) as u8;
                }
            }
        }
    }
    out
}

/// Runs damaged copies of the samples for at most 2 seconds.
fn storm(samples: &[Vec<u8>], pieces: &[&[u8]], check: impl Fn(&[u8])) {
    let mut random = Random(0x5eed);
    let start = Instant::now();
    for round in 0..20_000 {
        if start.elapsed() > Duration::from_millis(1500) {
            assert!(round > 100, "too slow to mean anything: {round} rounds");
            break;
        }
        let sample = &samples[random.below(samples.len())];
        check(&damage(sample, pieces, &mut random));
    }
}

#[test]
fn damaged_text() {
    let names = ["v0_net", "v1_train", "v1_input", "bn_old", "solver_old"];
    let read = |name: &str| std::fs::read(golden(&format!("upgrade/{name}.prototxt"))).unwrap();
    let pieces: Vec<&[u8]> = vec![
        b"{",
        b"}",
        b"<",
        b">",
        b"[",
        b"]",
        b":",
        b"\"",
        b"'",
        b"\\x",
        b"\\u12",
        b"0x",
        b"1e",
        b"-",
        b"inf",
        b"layers { layer {",
        b"type: 'padding'",
        b"input_dim: 9",
        b"\xff",
        b"\xef\xbb\xbf",
        b"\0",
        b"#",
        b"99999999999999999999999999999999999999999999",
        b"[a.b]",
        b"\xe7\xbd\x91",
        b"layer",
    ];
    storm(&names.map(read), &pieces, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        for error in [parse_net(&text, "f").err(), parse_solver(&text, "f").err()].into_iter().flatten() {
            assert!(error.place().is_some() && !error.to_string().is_empty());
        }
        if let Ok(parsed) = text::parse::<NetParameter>(&text, "f") {
            let printed = print(&parsed.message).unwrap();
            let again = text::parse::<NetParameter>(&printed, "f").unwrap().message;
            assert_eq!(print(&again).unwrap(), printed);
        }
    });
}

#[test]
fn damaged_binaries() {
    let names = ["solvers/adam/snap_iter_10.caffemodel", "solvers/adam/snap_iter_10.solverstate"];
    let mut samples: Vec<_> = names.map(|name| std::fs::read(golden(name)).unwrap()).to_vec();
    for name in ["v0_net", "v1_train", "bn_old"] {
        let old = text::read::<NetParameter>(golden(&format!("upgrade/{name}.prototxt"))).unwrap();
        samples.push(cortado::proto::encode_net(&old.message));
    }
    let pieces: Vec<&[u8]> = vec![
        &[0xff; 10],
        &[0x80; 9],
        &[0x0b; 40],
        &[0, 0],
        &[0xa2, 0x06],
        &[0x7f],
        &[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f],
    ];
    storm(&samples, &pieces, |bytes| {
        let _ = decode_weights(bytes);
        let _ = decode_net(bytes);
        let _ = decode::<SolverState>(bytes);
        let _ = decode_datum(bytes);
        let _ = is_binary(bytes);
        if let Ok((new, _)) = upgrade_net_bytes(bytes) {
            assert!(upgrade_net_bytes(&new).is_ok());
        }
    });
}
