//! Listening on the unix socket.

use std::{
    fs, io,
    os::unix::{
        fs::{FileTypeExt, MetadataExt, PermissionsExt},
        net::UnixStream as Dial,
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::net::{UnixListener, UnixStream};

use super::{Listener, Shutdown, Site, serve};

/// Owner and group may talk to the agent.
const MODE: u32 = 0o660;

/// The longest path that a socket address holds, and its end (`sun_path`, unix(7)).
const SUN_PATH: usize = 108;

/// The socket of the API, listening. It is removed when this is dropped.
#[derive(Debug)]
pub struct ApiSocket {
    listener: UnixListener,
    file: SocketFile,
}

/// Says why the socket cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another process serves it.
    #[error("--socket {}: another agent serves it; one node has one agent, or each its own --socket", path.display())]
    Served {
        /// The socket.
        path: PathBuf,
    },
    /// Something else is there.
    #[error("--socket {}: there is a file that is no socket; it stays as it is", path.display())]
    NotSocket {
        /// The path.
        path: PathBuf,
    },
    /// The path does not fit a socket address.
    #[error("--socket {}: {length} bytes are too long for a socket's path, {most} are the most", path.display())]
    TooLong {
        /// The path.
        path: PathBuf,
        /// Its length.
        length: usize,
        /// The longest that does.
        most: usize,
    },
    /// The system refuses.
    #[error("--socket {}: {source}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl ApiSocket {
    /// Listens on `path`, makes its directory if it is missing, and takes the place of a socket that nobody serves.
    /// Call it inside a Tokio runtime.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        let io = |source| SocketError::Io { path: path.to_owned(), source };
        // Bound beside its place and moved there: nobody meets it before its mode is set.
        let mut beside = path.as_os_str().to_owned();
        beside.push(".new");
        let most = SUN_PATH - 1 - ".new".len();
        let length = path.as_os_str().len();
        if length > most {
            return Err(SocketError::TooLong { path: path.to_owned(), length, most });
        }
        if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
            fs::create_dir_all(directory).map_err(io)?;
        }
        free(path)?;
        let beside = Path::new(&beside);
        free(beside)?;
        if beside.exists() {
            fs::remove_file(beside).map_err(io)?;
        }
        let listener = UnixListener::bind(beside).map_err(io)?;
        fs::set_permissions(beside, fs::Permissions::from_mode(MODE)).map_err(io)?;
        let inode = fs::symlink_metadata(beside).map_err(io)?.ino();
        fs::rename(beside, path).map_err(io)?;
        Ok(Self { listener, file: SocketFile { path: path.to_owned(), inode } })
    }

    /// Serves `site` until shutdown.
    pub async fn serve(self, site: Arc<dyn Site>, shutdown: Shutdown) {
        let Self { listener, file } = self;
        serve(listener, site, shutdown).await;
        drop(file);
    }
}

/// Checks that nobody serves `path` and that no file would be lost.
fn free(path: &Path) -> Result<(), SocketError> {
    let io = |source| SocketError::Io { path: path.to_owned(), source };
    let kind = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io(error)),
    };
    if !kind.is_socket() {
        return Err(SocketError::NotSocket { path: path.to_owned() });
    }
    match Dial::connect(path) {
        Ok(_) => Err(SocketError::Served { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        // A full queue: whoever it belongs to lives.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(SocketError::Served { path: path.to_owned() }),
        Err(error) => Err(io(error)),
    }
}

/// The socket's file; removed on drop, unless another has taken its place.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|metadata| metadata.ino() == self.inode);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "the socket's file stays behind");
        }
    }
}

impl Listener for UnixListener {
    type Stream = UnixStream;

    async fn accept(&self) -> io::Result<UnixStream> {
        let (stream, _) = UnixListener::accept(self).await?;
        Ok(stream)
    }
}
