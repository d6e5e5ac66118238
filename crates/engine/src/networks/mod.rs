//! Networks: what `docker network` asks for, over the drivers of `network`.
