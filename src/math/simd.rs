pub(crate) fn vectorised<R>(f: impl FnOnce() -> R) -> R {
    f()
}
