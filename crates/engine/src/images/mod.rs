//! Images: what `docker images`, `load`, `save`, `tag`, `rmi` ask for, over content store and layers.
