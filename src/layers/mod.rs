//! Floor 4: layers.
