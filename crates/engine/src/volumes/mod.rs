//! Volumes: what `docker volume` asks for, over the drivers of `storage`.
