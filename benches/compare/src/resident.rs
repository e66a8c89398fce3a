//! The resident memory of this process, as Linux tells it.

use std::fs;

/// Now.
pub(crate) fn resident_bytes() -> Option<u64> {
    told("VmRSS:")
}

/// The most that it has been since [`forget_peak`], or ever.
pub(crate) fn peak_bytes() -> Option<u64> {
    told("VmHWM:")
}

/// Has the peak begin at what is resident now. None where the kernel cannot, or we may not.
pub(crate) fn forget_peak() -> Option<()> {
    fs::write("/proc/self/clear_refs", "5").ok()
}

fn told(name: &str) -> Option<u64> {
    told_in(&fs::read_to_string("/proc/self/status").ok()?, name)
}

fn told_in(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1_024)
}

/// Held by tests that weigh, and by those that would weigh on them: they run in one process.
#[cfg(test)]
pub(crate) static WEIGHING: std::sync::Mutex<()> = std::sync::Mutex::new(());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_read_as_the_kernel_writes_it() {
        let status = "Name:\tcompare\nVmHWM:\t   99 kB\nVmRSS:\t    1234 kB\n";
        assert_eq!((told_in(status, "VmRSS:"), told_in(status, "VmHWM:")), (Some(1_234 * 1_024), Some(99 * 1_024)));
        assert_eq!(told_in("Name:\tcompare\n", "VmRSS:"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_peak_that_is_over_is_told_until_it_is_forgotten() {
        const MUCH: u64 = 64 << 20;
        let _alone = WEIGHING.lock();
        let before = resident_bytes().unwrap();
        drop(std::hint::black_box(vec![1_u8; MUCH as usize]));
        assert!(peak_bytes().unwrap() >= before + MUCH / 2);
        forget_peak().unwrap();
        assert!(peak_bytes().unwrap() < before + MUCH / 2);
    }
}
