//! Memory of the process.

use std::fs;

/// The most memory that the process has held so far, in bytes (`VmHWM`); none where the system does not tell (it is
/// Linux that does).
pub fn peak_resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// A number of bytes as people say it: `24.0 MB`, of 1024 × 1024 bytes each.
pub fn megabytes(bytes: usize) -> String {
    format!("{:.1} MB", bytes as f64 / f64::from(1 << 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn the_peak_holds_what_was_touched() {
        let block = std::hint::black_box(vec![1u8; 32 << 20]);
        assert!(peak_resident().unwrap() >= block.len() as u64);
    }

    #[test]
    fn bytes_in_words() {
        assert_eq!(megabytes(25 << 20), "25.0 MB");
    }
}
