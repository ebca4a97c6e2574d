//! Floor 1: the thread pool and the devices.
