//! Several blobs at a time.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::{Error, Result};

/// Does `job` for every item, `lanes` at once, and returns the results in the items' order.
///
/// After the first failure no further job begins, and those under way are told through the flag they are given.
///
/// # Errors
/// The first failure.
pub(crate) fn in_parallel<I: Sync, T: Send>(
    items: &[I],
    lanes: usize,
    job: impl Fn(&I, &AtomicBool) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let results: Mutex<Vec<(usize, T)>> = Mutex::new(Vec::with_capacity(items.len()));
    let failure: Mutex<Option<Error>> = Mutex::new(None);
    let lane = || {
        while !stop.load(Ordering::Relaxed) {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(at) else { return };
            match job(item, &stop) {
                Ok(result) => results.lock().unwrap_or_else(PoisonError::into_inner).push((at, result)),
                Err(error) => {
                    stop.store(true, Ordering::Relaxed);
                    failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..lanes.min(items.len()) {
            scope.spawn(lane);
        }
        lane();
    });
    if let Some(error) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(at, _)| *at);
    Ok(results.into_iter().map(|(_, result)| result).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_is_kept_and_the_first_failure_wins() {
        let items: Vec<u32> = (0..50).collect();
        assert_eq!(in_parallel(&items, 6, |i, _| Ok(i * 2)).unwrap()[49], 98);
        assert!(in_parallel(&[] as &[u32], 6, |i, _| Ok(*i)).unwrap().is_empty());
        let failed = in_parallel(&items, 6, |i, stop| match (*i, stop.load(Ordering::Relaxed)) {
            (_, true) => Err(Error::Stopped),
            (7, _) => Err(Error::Convert { name: "x".to_owned(), reason: "y".to_owned() }),
            _ => Ok(()),
        });
        assert!(matches!(failed, Err(Error::Convert { .. })));
    }
}
