//! Waiting for what other processes do.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Far beyond what anything here takes: reaching it means a hang, not a slow machine.
pub const HANG: Duration = Duration::from_secs(120);

/// Asks `condition` again and again until it holds.
///
/// # Errors
/// The condition's own, or that it did not hold within [`HANG`]; `what` says what was waited for.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> Result<bool>) -> Result<()> {
    let start = Instant::now();
    while !condition()? {
        if start.elapsed() > HANG {
            bail!("waited {} s for {what}", HANG.as_secs());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
