//! Containers: create, start, attach, exec, stop, remove, and what is known of them.
