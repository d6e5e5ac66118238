//! The engine as a whole: version, information, disk usage.
