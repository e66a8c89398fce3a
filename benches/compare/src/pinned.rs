//! Measuring threads: each on a core of its own, all let go at once.

use std::sync::Barrier;

use tokio::runtime::Handle;

/// Runs `body` for each lane in a thread of its own and collects what they return. Lane `i` is pinned to the `i`th core this process may
/// use, where the system allows it. `body` is given the barrier at which the threads of this call meet.
pub(crate) fn together<L, T>(lanes: impl IntoIterator<Item = L>, body: impl Fn(L, &Barrier) -> T + Sync) -> Vec<T>
where
    L: Send,
    T: Send,
{
    let lanes: Vec<L> = lanes.into_iter().collect();
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let barrier = Barrier::new(lanes.len());
    let runtime = Handle::current();
    let (body, barrier, runtime) = (&body, &barrier, &runtime);
    std::thread::scope(|scope| {
        let threads: Vec<_> = lanes
            .into_iter()
            .enumerate()
            .map(|(index, lane)| {
                let core = cores.get(index % cores.len().max(1)).copied();
                scope.spawn(move || {
                    let _inside = runtime.enter();
                    // Refused in some containers; the figures are then only less steady.
                    let _pinned = core.is_some_and(core_affinity::set_for_current);
                    body(lane, barrier)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}
