//! Builds root filesystems and bundles.
