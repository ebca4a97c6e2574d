//! What the flags of a subcommand were set to.

use crate::device::{self, Cudnn, Gpu, Pool, Precision, WORKSPACE};
use crate::error::{Error, Kind, Result, nearest};
use crate::proto::caffe::Phase;
use crate::tools::NetFile;
use std::ffi::{OsStr, OsString};
use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;

/// The flags and arguments of a subcommand, with errors that name them.
pub(super) struct Matches(clap::ArgMatches);

impl Matches {
    pub fn new(matches: clap::ArgMatches) -> Matches {
        Matches(matches)
    }

    fn value(&self, name: &str) -> Option<&OsStr> {
        // A flag that the subcommand does not have is one that was not given.
        self.0.try_get_one::<OsString>(name).ok().flatten().map(OsString::as_os_str)
    }

    /// A flag with a value, as text.
    pub fn text(&self, name: &str) -> Result<Option<&str>> {
        self.value(name)
            .map(|v| v.to_str().ok_or_else(|| wrong(name, "is not UTF-8").found(v.display())))
            .transpose()
    }

    /// A required path.
    pub fn path(&self, name: &str) -> Result<PathBuf> {
        self.optional_path(name).ok_or_else(|| wrong(name, "is missing"))
    }

    /// A path that may be left out.
    pub fn optional_path(&self, name: &str) -> Option<PathBuf> {
        self.value(name).map(PathBuf::from)
    }

    /// Paths with commas between; none if the flag was not given.
    pub fn paths(&self, name: &str) -> Vec<PathBuf> {
        match self.value(name).map(|v| (v, v.to_str())) {
            None => Vec::new(),
            Some((_, Some(text))) => parts(text).map(PathBuf::from).collect(),
            Some((value, None)) => vec![PathBuf::from(value)],
        }
    }

    /// A list with commas between.
    pub fn list(&self, name: &str) -> Result<Vec<String>> {
        Ok(self.text(name)?.map(|text| parts(text).map(String::from).collect()).unwrap_or_default())
    }

    /// A number, or `default` if the flag was not given.
    pub fn number<N: FromStr<Err: Display>>(&self, name: &str, default: N) -> Result<N> {
        let Some(text) = self.text(name)? else { return Ok(default) };
        text.parse().map_err(|e| wrong(name, &format!("is no such number: {e}")).found(text))
    }

    /// A number above zero.
    pub fn positive(&self, name: &str, default: f64) -> Result<f64> {
        let value = self.number(name, default)?;
        if value > 0.0 && value.is_finite() {
            return Ok(value);
        }
        Err(wrong(name, "makes no sense").expected("a number above 0").found(value))
    }

    /// Whether a flag without a value was given.
    pub fn is_set(&self, name: &str) -> bool {
        self.0.try_get_one::<bool>(name).ok().flatten().copied().unwrap_or(false)
    }

    /// One of several words, in any letter case; the first if the flag was not given.
    pub fn choice<V: Copy>(&self, name: &str, choices: &[(&str, V)], default: V) -> Result<V> {
        let Some(text) = self.text(name)? else { return Ok(default) };
        if let Some((_, value)) = choices.iter().find(|(word, _)| word.eq_ignore_ascii_case(text)) {
            return Ok(*value);
        }
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        let error =
            wrong(name, "is none of its words").expected(words.join(", ")).found(format!("\"{text}\""));
        Err(match nearest(text, words) {
            Some(word) => error.suggest(format!("did you mean \"{word}\"?")),
            None => error,
        })
    }

    /// The phase.
    pub fn phase(&self, default: Phase) -> Result<Phase> {
        self.choice("phase", &[("TRAIN", Phase::Train), ("TEST", Phase::Test)], default)
    }

    /// The net of a flag or argument, in the state of `--phase`, `--level` and `--stage`.
    pub fn net(&self, name: &str, phase: Phase) -> Result<NetFile> {
        NetFile::open(self.path(name)?, phase, self.number("level", 0)?, &self.list("stage")?)
    }

    /// The threads to compute with.
    pub fn pool(&self) -> Result<Pool> {
        Pool::new(self.number("threads", 0)?)
    }

    /// The device of `-gpu`, opened. Errors: no such device, no driver; several devices.
    pub fn gpu(&self) -> Result<Option<Gpu>> {
        let ordinals = self.ordinals()?;
        if ordinals.len() > 1 {
            return Err(Error::new(Kind::Usage, "only train runs on several GPUs")
                .expected("the number of one GPU")
                .found(format!("-gpu {}", self.text("gpu")?.unwrap_or_default())));
        }
        let gpu = ordinals.into_iter().next().map(Gpu::open).transpose()?;
        gpu.as_ref().map_or(Ok(()), |gpu| self.adjust(gpu))?;
        Ok(gpu)
    }

    /// The devices of `-gpu`, opened, in its order. Errors: no such device, no driver.
    pub fn gpus(&self) -> Result<Vec<Gpu>> {
        self.ordinals()?.into_iter().map(Gpu::open).collect()
    }

    /// Their numbers; those of all there are for `all`.
    pub fn ordinals(&self) -> Result<Vec<usize>> {
        let Some(text) = self.text("gpu")? else { return Ok(Vec::new()) };
        let numbers: Vec<usize> = match text {
            "all" => (0..device::count()?).collect(),
            list => parts(list).map(|text| self.ordinal(text)).collect::<Result<_>>()?,
        };
        match numbers.is_empty() {
            true => Err(Error::new(Kind::Device, "there is no GPU").found(format!("-gpu {text}"))),
            false => Ok(numbers),
        }
    }

    /// Tells a device what the flags say of it.
    pub fn adjust(&self, gpu: &Gpu) -> Result<()> {
        gpu.set_workspace(self.bytes("workspace", WORKSPACE)?);
        let ways = [Cudnn::Search, Cudnn::Forecast, Cudnn::Off].map(|way| (way.name(), way));
        gpu.set_cudnn(self.choice("cudnn", &ways, Cudnn::default())?);
        gpu.set_cublaslt(self.choice("cublaslt", &[("auto", true), ("off", false)], true)?);
        Ok(())
    }

    /// A size of memory: a number of MiB, or a number with K, M or G behind it.
    pub fn bytes(&self, name: &str, default: usize) -> Result<usize> {
        let Some(text) = self.text(name)? else { return Ok(default) };
        let units = [("K", 10), ("M", 20), ("G", 30)];
        let unit = units.iter().find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, shift)));
        let (number, shift) = unit.unwrap_or((text, &20));
        let bytes = number.parse::<usize>().ok().and_then(|n| n.checked_mul(1 << shift));
        bytes.ok_or_else(|| {
            wrong(name, "is no size of memory")
                .expected("256M, 1G or the like; a plain number is of MiB")
                .found(text)
        })
    }

    /// Has a device multiply as `--tf32` and `--amp` say. Errors: both; no device for them; one that is too old.
    pub fn precise(&self, gpu: Option<&Gpu>) -> Result<()> {
        let amp =
            self.choice("amp", &[("bf16", Precision::Bf16), ("off", Precision::Full)], Precision::Full)?;
        let (flag, precision) = match (self.is_set("tf32"), amp) {
            (false, Precision::Full) => return Ok(()),
            (true, Precision::Full) => ("--tf32", Precision::Tf32),
            (false, amp) => ("--amp", amp),
            (true, _) => {
                return Err(Error::new(
                    Kind::Usage,
                    "a product has one precision: give --tf32 or --amp, not both",
                ));
            }
        };
        match gpu {
            Some(gpu) => gpu.set_precision(precision),
            None => Err(Error::new(Kind::Usage, format!("{flag} is for a GPU, and this runs on the CPU"))
                .suggest("add -gpu 0, or leave it out")),
        }
    }

    /// The number of a device.
    fn ordinal(&self, text: &str) -> Result<usize> {
        text.parse().map_err(|_| wrong("gpu", "is no number of a device").expected("0 or more").found(text))
    }
}

fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty())
}

fn wrong(name: &str, what: &str) -> Error {
    Error::new(Kind::Usage, format!("the value of --{name} {what}"))
}
