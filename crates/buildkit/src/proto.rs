//! The protocol's messages and services, under short names.

pub(crate) use bollard_buildkit_proto::{
    fsutil::types as fsutil,
    google, health,
    moby::{
        buildkit::{
            secrets::v1 as secrets,
            v1 as control,
            v1::{apicaps, frontend as gateway, types},
        },
        filesync::{packet, v1 as filesync},
        sshforward::v1 as ssh,
        upload::v1 as upload,
    },
    pb,
};

use base::{Platform, Timestamp};

/// A time on the wire.
pub(crate) fn time(at: Timestamp) -> google::protobuf::Timestamp {
    google::protobuf::Timestamp {
        seconds: at.unix(),
        nanos: i32::try_from(at.subsec_nanos()).unwrap_or_default(),
    }
}

/// Now, on the wire.
pub(crate) fn now() -> google::protobuf::Timestamp {
    time(Timestamp::now())
}

/// A platform on the wire.
pub(crate) fn platform(platform: &Platform) -> pb::Platform {
    pb::Platform {
        architecture: platform.architecture.clone(),
        os: platform.os.clone(),
        variant: platform.variant.clone(),
        ..pb::Platform::default()
    }
}

/// A platform from the wire.
pub(crate) fn platform_from(platform: &pb::Platform) -> Platform {
    Platform {
        os: platform.os.clone(),
        architecture: platform.architecture.clone(),
        variant: platform.variant.clone(),
    }
}
