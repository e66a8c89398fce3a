//! The machine and the day, without which a figure means nothing.

use std::fmt;
use std::fs;
use std::thread::available_parallelism;
use std::time::SystemTime;

/// Where and when a run took place.
#[derive(Debug)]
pub(crate) struct Machine {
    cpu: String,
    cores: usize,
    kernel: String,
    date: String,
    /// Threads that wanted to run in the last minute, ours not among them yet.
    load: f64,
}

impl Machine {
    /// This machine, now.
    pub(crate) fn here() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let date = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        Self {
            cpu: cpu_model(&cpuinfo).unwrap_or("unknown CPU").to_owned(),
            cores: available_parallelism().map_or(1, usize::from),
            kernel: kernel.trim().to_owned(),
            load: fs::read_to_string("/proc/loadavg").ok().and_then(|text| text.split(' ').next()?.parse().ok()).unwrap_or(0.0),
            date: date.split('T').next().unwrap_or_default().to_owned(),
        }
    }

    /// Whether something else is running: its share of the cores ends up in the figures.
    pub(crate) fn is_busy(&self) -> bool {
        self.load > 0.5
    }

    /// Hardware threads this process may run on.
    pub(crate) fn cores(&self) -> usize {
        self.cores
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}, {} cores, {} {}, load {}, {}",
            self.cpu,
            self.cores,
            std::env::consts::OS,
            self.kernel,
            self.load,
            self.date
        )
    }
}

fn cpu_model(cpuinfo: &str) -> Option<&str> {
    cpuinfo.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == "model name").then(|| value.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_is_named_as_the_kernel_names_it() {
        assert_eq!(cpu_model("processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n"), Some("Some CPU @ 2 GHz"));
        assert_eq!(cpu_model("processor: 0\n"), None);
    }
}
