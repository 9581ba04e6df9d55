//! The bytes of a file, wherever they are.

use std::{
    borrow::Cow,
    io::{self, BufRead, BufReader, Cursor, ErrorKind, Read, Seek, SeekFrom},
    sync::{Arc, Mutex, PoisonError},
};

/// Where a file is read from: a file on disk, or anything else that can be read and sought.
pub trait Source: Read + Seek + Send {}

impl<T: Read + Seek + Send> Source for T {}

/// A file as the decoders read it: buffered, with its length known.
pub(super) struct Input<'a> {
    data: Data<'a>,
    position: u64,
    len: u64,
    failure: Failure,
}

enum Data<'a> {
    Memory(Cursor<Cow<'a, [u8]>>),
    Source(BufReader<Box<dyn Source + 'a>>),
}

/// The first error that reading met, other than the end of the file. Decoders take any error for
/// damage and some hide it; it is the disk's fault, not the file's.
#[derive(Clone, Default)]
pub(super) struct Failure(Arc<Mutex<Option<io::Error>>>);

impl Failure {
    /// The error, once.
    pub(super) fn take(&self) -> Option<io::Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Remembers an error and gives a copy to the decoder.
    fn note(&self, error: io::Error) -> io::Error {
        if matches!(
            error.kind(),
            ErrorKind::Interrupted | ErrorKind::UnexpectedEof
        ) {
            return error;
        }
        let copy = io::Error::new(error.kind(), error.to_string());
        let mut first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert(error);
        copy
    }
}

impl<'a> Input<'a> {
    pub(super) fn of_bytes(bytes: &'a [u8]) -> Self {
        Self {
            data: Data::Memory(Cursor::new(Cow::Borrowed(bytes))),
            position: 0,
            len: bytes.len() as u64,
            failure: Failure::default(),
        }
    }

    /// # Errors
    /// Those of seeking.
    pub(super) fn of_source(mut source: Box<dyn Source + 'a>) -> io::Result<Self> {
        let len = source.seek(SeekFrom::End(0))?;
        source.rewind()?;
        Ok(Self {
            data: Data::Source(BufReader::new(source)),
            position: 0,
            len,
            failure: Failure::default(),
        })
    }

    /// Size of the file, in bytes.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn failure(&self) -> Failure {
        self.failure.clone()
    }

    /// Fills `buffer` from byte `at` on.
    pub(super) fn read_at(&mut self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.seek(SeekFrom::Start(at))?;
        self.read_exact(buffer)
    }

    /// Brings the whole file into memory, if it is not there.
    pub(super) fn load(&mut self) -> io::Result<&[u8]> {
        if let Data::Source(_) = self.data {
            self.rewind()?;
            let len = self.len;
            let mut bytes = Vec::with_capacity(usize::try_from(len).unwrap_or(0));
            self.by_ref().take(len).read_to_end(&mut bytes)?;
            self.data = Data::Memory(Cursor::new(Cow::Owned(bytes)));
            self.position = 0;
        }
        match &self.data {
            Data::Memory(bytes) => Ok(bytes.get_ref()),
            Data::Source(_) => Ok(&[]),
        }
    }

    /// The whole file, to be changed in place.
    pub(super) fn into_bytes(mut self) -> io::Result<Vec<u8>> {
        self.load()?;
        Ok(match self.data {
            Data::Memory(bytes) => bytes.into_inner().into_owned(),
            Data::Source(_) => Vec::new(),
        })
    }
}

impl Read for Input<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = match &mut self.data {
            Data::Memory(bytes) => bytes.read(buffer),
            Data::Source(source) => source.read(buffer),
        };
        let read = read.map_err(|error| self.failure.note(error))?;
        self.position += read as u64;
        Ok(read)
    }
}

impl BufRead for Input<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let Self { data, failure, .. } = self;
        match data {
            Data::Memory(bytes) => bytes.fill_buf(),
            Data::Source(source) => source.fill_buf().map_err(|error| failure.note(error)),
        }
    }

    fn consume(&mut self, amount: usize) {
        match &mut self.data {
            Data::Memory(bytes) => bytes.consume(amount),
            Data::Source(source) => source.consume(amount),
        }
        self.position += amount as u64;
    }
}

impl Seek for Input<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(target) => Some(target),
            SeekFrom::End(offset) => self.len.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        let outside = || io::Error::new(ErrorKind::UnexpectedEof, "before or beyond the file");
        let target = target
            .filter(|target| i64::try_from(*target).is_ok())
            .ok_or_else(outside)?;
        match &mut self.data {
            Data::Memory(bytes) => bytes.set_position(target),
            Data::Source(source) => {
                let by = target.cast_signed() - self.position.cast_signed();
                // Keeps what is buffered if the place is in it.
                source
                    .seek_relative(by)
                    .map_err(|error| self.failure.note(error))?;
            }
        }
        self.position = target;
        Ok(target)
    }
}
