//! The smallest memory limit under which a container still starts: a binary
//! search over whole pages, then a confirmation, as a limit near the edge
//! sometimes suffices. It must leave nothing of the failed starts behind.

use anyhow::Result;

use crate::contender::Contender;
use crate::site::Site;

const STEP_KIB: u64 = 4;
pub const LARGEST_KIB: u64 = 32 * 1024;

/// In KiB; `None` when the container does not even start at `LARGEST_KIB`.
pub fn smallest(site: &Site, contender: &Contender, quick: bool) -> Result<Option<u64>> {
    let (search, confirm) = if quick { (1, 2) } else { (3, 12) };
    if !starts(site, contender, LARGEST_KIB, search)? {
        return Ok(None);
    }
    // In steps: too little, enough.
    let (mut low, mut high) = (0, LARGEST_KIB / STEP_KIB);
    while high - low > 1 {
        let middle = (low + high) / 2;
        match starts(site, contender, middle * STEP_KIB, search)? {
            true => high = middle,
            false => low = middle,
        }
    }
    while high * STEP_KIB < LARGEST_KIB && !starts(site, contender, high * STEP_KIB, confirm)? {
        high += 1;
    }
    Ok(Some(high * STEP_KIB))
}

/// Whether that many runs in a row succeed.
fn starts(site: &Site, contender: &Contender, kib: u64, times: u32) -> Result<bool> {
    const ID: &str = "limit";
    let bytes = Some(kib * 1024);
    site.write_bundle(contender, ID, "/bin/true", bytes)?;
    for _ in 0..times {
        if site
            .stopwatch
            .time(&contender.run(site, ID, bytes))
            .is_err()
        {
            site.clear(contender, ID)?;
            return Ok(false);
        }
    }
    Ok(true)
}
