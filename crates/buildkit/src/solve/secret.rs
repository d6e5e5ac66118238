//! Secrets and agents: from the client's session to one command, and nowhere else.
//!
//! Invariants: a secret is a file in memory that goes when the command ends, or a variable of the command; it
//! is in no layer, key, record or log. An agent's socket speaks with the client for as long as the command
//! runs.

use crate::{
    failure::from_status,
    job::Job,
    proto::{pb, secrets, ssh},
    site::Site,
};
use base::{Error, Kind, Result};
use std::{
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    sync::mpsc,
};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Bytes of a secret.
const SECRET: usize = 500 << 10;
/// Connections to an agent at once.
const TALKS: usize = 64;

/// A file or socket that goes when this is dropped.
#[derive(Debug)]
pub(super) struct Passing {
    folder: PathBuf,
    path: PathBuf,
    _talks: Option<DropGuard>,
}

impl Passing {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        if let Err(err) = std::fs::remove_dir_all(&self.folder) {
            tracing::warn!(err = err.to_string(), "a secret's file stays until the next start");
        }
        // The last one takes the common folder along.
        let _others = self.folder.parent().map(std::fs::remove_dir);
    }
}

/// The value of a secret; nothing for an optional one that the client does not have.
///
/// # Errors
/// `NotFound` for one that is needed.
pub(super) async fn value(job: &Job, id: &str, optional: bool) -> Result<Option<Vec<u8>>> {
    let missing = || match optional {
        true => Ok(None),
        false => Err(Error::not_found(format!("secret {id}: not found"))),
    };
    let Ok(session) = job.session("").await else { return missing() };
    if !session.serves("/moby.buildkit.secrets.v1.Secrets/GetSecret") {
        return missing();
    }
    let request = secrets::GetSecretRequest { id: id.to_owned(), ..Default::default() };
    match session.secrets().get_secret(request).await {
        Ok(found) => {
            let data = found.into_inner().data;
            match data.len() > SECRET {
                true => Err(Error::invalid(format!("secret {id} is larger than {SECRET} bytes"))),
                false => Ok(Some(data)),
            }
        }
        Err(status) => match from_status(format!("secret {id}"), &status) {
            err if err.kind() == Kind::NotFound => missing(),
            err => Err(err),
        },
    }
}

fn folder(site: &Site) -> Result<PathBuf> {
    let folder = site.volatile.join(base::ContainerId::random().short());
    crate::site::private(&folder)?;
    Ok(folder)
}

/// A secret as a file.
///
/// # Errors
/// Of the disk.
pub(super) fn file(site: &Site, value: &[u8], options: &pb::SecretOpt) -> Result<Passing> {
    use std::io::Write as _;
    let folder = folder(site)?;
    let path = folder.join("secret");
    let passing = Passing { folder, path: path.clone(), _talks: None };
    let fail = |e| Error::io("cannot write a secret for a step", e);
    let mut file = std::fs::File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .map_err(fail)?;
    file.write_all(value).map_err(fail)?;
    let change = |e: sys::root::Error| fail(e.into());
    sys::root::chown_open(&file, options.uid, options.gid).map_err(change)?;
    let mode = if options.mode == 0 { 0o400 } else { options.mode & 0o777 };
    sys::root::chmod_open(&file, mode).map_err(change)?;
    Ok(passing)
}

/// A socket that speaks with an agent of the client; nothing for an optional one that it does not have.
///
/// # Errors
/// `NotFound` for one that is needed; of the disk.
pub(super) async fn agent(job: &Arc<Job>, options: &pb::SshOpt) -> Result<Option<Passing>> {
    let id = if options.id.is_empty() { "default" } else { &options.id };
    let missing = |cause: Error| match options.optional {
        true => Ok(None),
        false => Err(Error::not_found(format!(
            "no SSH key {id:?} forwarded from the client: give it with --ssh"
        ))
        .caused_by(cause)),
    };
    let session = match job.session("").await {
        Ok(session) => session,
        Err(err) => return missing(err),
    };
    if let Err(err) = session.needs("/moby.sshforward.v1.SSH/ForwardAgent") {
        return missing(err);
    }
    let request = ssh::CheckAgentRequest { id: id.to_owned() };
    if let Err(status) = session.ssh().check_agent(request).await {
        return missing(from_status("the client has no such agent", &status));
    }
    let folder = folder(&job.site)?;
    let path = folder.join("agent.sock");
    let talks = CancellationToken::new();
    let passing = Passing { folder, path: path.clone(), _talks: Some(talks.clone().drop_guard()) };
    let fail = |e| Error::io("cannot make an agent's socket", e);
    let listener = UnixListener::bind(&path).map_err(fail)?;
    let mode = if options.mode == 0 { 0o600 } else { options.mode & 0o777 };
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).map_err(fail)?;
    std::os::unix::fs::chown(&path, Some(options.uid), Some(options.gid)).map_err(fail)?;
    let (client, id) = (session.ssh(), id.to_owned());
    job.spawn(async move {
        let turns = Arc::new(tokio::sync::Semaphore::new(TALKS));
        loop {
            let accepted = tokio::select! {
                () = talks.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else { return };
            let Ok(turn) = Arc::clone(&turns).acquire_owned().await else { return };
            let (client, id, talks) = (client.clone(), id.clone(), talks.clone());
            tokio::spawn(async move {
                let _turn = turn;
                tokio::select! {
                    () = talks.cancelled() => {}
                    talked = talk(client, &id, stream) => {
                        if let Err(err) = talked {
                            tracing::debug!(err = err.chain(), "an agent's connection ended");
                        }
                    }
                }
            });
        }
    });
    Ok(Some(passing))
}

async fn talk(
    mut client: ssh::ssh_client::SshClient<crate::session::Channel>,
    id: &str,
    stream: UnixStream,
) -> Result<()> {
    let (mut reader, mut writer) = stream.into_split();
    let (sender, receiver) = mpsc::channel::<ssh::BytesMessage>(8);
    let outgoing = futures_util::stream::unfold(receiver, |mut receiver| async move {
        Some((receiver.recv().await?, receiver))
    });
    let mut request = tonic::Request::new(outgoing);
    let value = id.parse().map_err(|_| Error::invalid("malformed id of an agent"))?;
    request.metadata_mut().insert("buildkit.ssh.id", value);
    let what = "cannot reach the client's agent";
    let mut incoming =
        client.forward_agent(request).await.map_err(|s| from_status(what, &s))?.into_inner();
    let fail = |e| Error::io(what, e);
    let forth = async {
        let mut buffer = vec![0; 32 << 10];
        loop {
            let count = reader.read(&mut buffer).await.map_err(fail)?;
            if count == 0 {
                return Ok::<_, Error>(());
            }
            let message = ssh::BytesMessage { data: buffer[..count].to_vec() };
            if sender.send(message).await.is_err() {
                return Ok(());
            }
        }
    };
    let back = async {
        while let Some(message) = incoming.message().await.map_err(|s| from_status(what, &s))? {
            writer.write_all(&message.data).await.map_err(fail)?;
        }
        Ok::<_, Error>(())
    };
    tokio::select! {
        done = forth => done,
        done = back => done,
    }
}
