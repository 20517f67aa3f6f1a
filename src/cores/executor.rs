//! One core's executor: glommio if the kernel permits io_uring, otherwise tokio's single-threaded runtime. The same
//! code runs on both. Only sockets, timers and fdatasync differ.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_lite::FutureExt;

use crate::base::durable;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runtime {
    IoUring,
    Epoll,
}

impl Runtime {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Runtime::IoUring => "io_uring",
            Runtime::Epoll => "epoll",
        }
    }
}

/// The size of the buffers registered with the ring. The default of 10 MiB per executor is for direct I/O, which is
/// not used here.
const IO_MEMORY_BYTES: usize = 1 << 20;

thread_local! {
    static RUNTIME: Cell<Runtime> = const { Cell::new(Runtime::Epoll) };
}

/// Runs `main` to its end on the calling thread, which is already pinned.
pub fn run<F: Future<Output = ()> + 'static>(
    runtime: Runtime,
    name: &str,
    cpu: usize,
    main: F,
) -> io::Result<()> {
    RUNTIME.set(runtime);
    match runtime {
        Runtime::IoUring => {
            let executor = glommio::LocalExecutorBuilder::new(glommio::Placement::Fixed(cpu))
                .name(name)
                .io_memory(IO_MEMORY_BYTES)
                .make()
                .map_err(|error| io::Error::other(error.to_string()))?;
            executor.run(main);
        }
        Runtime::Epoll => {
            let executor = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            tokio::task::LocalSet::new().block_on(&executor, main);
        }
    }
    Ok(())
}

/// Starts a task on this core. A panic ends the task and is logged; the core continues.
pub fn spawn(task: impl Future<Output = ()> + 'static) {
    let task = async move {
        if AssertUnwindSafe(task).catch_unwind().await.is_err() {
            tracing::error!("a task panicked; its connection is closed, and the core continues");
        }
    };
    match RUNTIME.get() {
        Runtime::IoUring => drop(glommio::spawn_local(task).detach()),
        Runtime::Epoll => drop(tokio::task::spawn_local(task)),
    }
}

pub async fn sleep(time: Duration) {
    match RUNTIME.get() {
        Runtime::IoUring => glommio::timer::sleep(time).await,
        Runtime::Epoll => tokio::time::sleep(time).await,
    }
}

/// Files kept open for [`Files::sync_data`]: the few that are being appended to.
#[derive(Debug, Default)]
pub struct Files {
    open: RefCell<Vec<(PathBuf, OpenFile)>>,
}

#[derive(Clone, Debug)]
enum OpenFile {
    IoUring(std::rc::Rc<glommio::io::BufferedFile>),
    Epoll(std::sync::Arc<std::fs::File>),
}

/// The maximum number of open files. It exceeds the number of files that are appended to at a time.
const OPEN_FILES_MAX: usize = 8;

impl Files {
    /// Calls fdatasync without blocking the core: by the ring, or on a thread of the fallback's pool.
    pub async fn sync_data(&self, path: &Path) -> io::Result<()> {
        match self.open(path).await? {
            OpenFile::IoUring(file) => file.fdatasync().await.map_err(io_error),
            OpenFile::Epoll(file) => blocking(move || file.sync_data()).await,
        }
    }

    async fn open(&self, path: &Path) -> io::Result<OpenFile> {
        let known = self.open.borrow().iter().find(|(known, _)| known == path).map(|(_, file)| file.clone());
        if let Some(file) = known {
            return Ok(file);
        }
        let file = match RUNTIME.get() {
            Runtime::IoUring => OpenFile::IoUring(std::rc::Rc::new(
                glommio::io::BufferedFile::open(path).await.map_err(io_error)?,
            )),
            Runtime::Epoll => OpenFile::Epoll(std::sync::Arc::new(std::fs::File::open(path)?)),
        };
        let mut open = self.open.borrow_mut();
        if open.len() >= OPEN_FILES_MAX {
            open.remove(0);
        }
        open.push((path.to_owned(), file.clone()));
        Ok(file)
    }

    /// Calls fsync on a folder, so that the name of a new file is on disk too. The ring cannot open a folder as a
    /// file.
    pub async fn sync_folder(&self, path: &Path) -> io::Result<()> {
        let path = path.to_owned();
        blocking(move || durable::sync_folder(&path)).await
    }
}

/// A file that is read without blocking the core: by the ring, or on a thread of the fallback's pool. It is closed
/// when it is dropped.
#[derive(Debug)]
pub struct ReadFile(OpenFile);

impl ReadFile {
    pub async fn open(path: &Path) -> io::Result<ReadFile> {
        Ok(ReadFile(match RUNTIME.get() {
            Runtime::IoUring => OpenFile::IoUring(std::rc::Rc::new(
                glommio::io::BufferedFile::open(path).await.map_err(io_error)?,
            )),
            Runtime::Epoll => OpenFile::Epoll(std::sync::Arc::new(std::fs::File::open(path)?)),
        }))
    }

    /// Reads up to `count` bytes. Returns an empty vector at the end of the file.
    pub async fn read_at(&self, at: u64, count: usize) -> io::Result<Vec<u8>> {
        match &self.0 {
            OpenFile::IoUring(file) => Ok(file.read_at(at, count).await.map_err(io_error)?.to_vec()),
            OpenFile::Epoll(file) => {
                let file = file.clone();
                blocking(move || {
                    use std::os::unix::fs::FileExt as _;
                    let mut bytes = vec![0; count];
                    let read = file.read_at(&mut bytes, at)?;
                    bytes.truncate(read);
                    Ok(bytes)
                })
                .await
            }
        }
    }
}

/// Runs an operation that waits for the disk, such as a sync or a rename, on a thread of the runtime's pool. It
/// should take only milliseconds, because io_uring's executor has only one such thread per core.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    // A panic would end that thread, and a waiting task would wait indefinitely.
    let work = move || {
        let done = std::panic::catch_unwind(AssertUnwindSafe(work));
        done.unwrap_or_else(|_| Err(io::Error::other("a disk task panicked")))
    };
    match RUNTIME.get() {
        Runtime::IoUring => glommio::executor().spawn_blocking(work).await,
        Runtime::Epoll => match tokio::task::spawn_blocking(work).await {
            Ok(outcome) => outcome,
            Err(error) => Err(io::Error::other(error.to_string())),
        },
    }
}

fn io_error<T>(error: glommio::GlommioError<T>) -> io::Error {
    io::Error::from(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(test: impl Fn(Runtime)) {
        test(Runtime::Epoll);
        if crate::cores::preflight::io_uring().is_ok() {
            test(Runtime::IoUring);
        } else {
            eprintln!("skipped on io_uring: this kernel refuses it");
        }
    }

    #[test]
    fn tasks_timers_and_syncs_work_on_both_runtimes() {
        both(|runtime| {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("file");
            std::fs::write(&path, "x").unwrap();
            let (tell, told) = async_channel::bounded(4);
            std::thread::spawn(move || {
                run(runtime, "test", 0, async move {
                    spawn(async { panic!("on purpose: the executor survives it") });
                    let files = Files::default();
                    let synced =
                        files.sync_data(&path).await.and(files.sync_folder(path.parent().unwrap()).await);
                    sleep(Duration::from_millis(1)).await;
                    let missing = files.sync_data(Path::new("/nowhere")).await;
                    let file = ReadFile::open(&path).await.unwrap();
                    assert_eq!(file.read_at(0, 10).await.unwrap(), b"x");
                    assert_eq!(file.read_at(1, 10).await.unwrap(), b"");
                    assert!(ReadFile::open(Path::new("/nowhere")).await.is_err());
                    tell.send((synced.is_ok(), missing.is_err())).await.unwrap();
                })
                .unwrap();
            })
            .join()
            .unwrap();
            assert_eq!(told.recv_blocking(), Ok((true, true)), "{runtime:?}");
        });
    }
}
