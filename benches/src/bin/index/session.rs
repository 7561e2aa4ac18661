//! A session with little of its own: one write and one wait a query, no tasks and no queues between. What a general client
//! does for a query takes as long as a look-up in the server.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use anyhow::{Context, Result, bail, ensure};
use bytes::BytesMut;
use postgres::config::Host;
use postgres::fallible_iterator::FallibleIterator;
use postgres_protocol::IsNull;
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend::{self, BindError};

/// Values in binary.
const BINARY: i16 = 1;
/// Bytes asked for at once.
const CHUNK: usize = 8192;

/// A session over a Unix socket with one prepared statement, which takes one parameter and returns a column of `int4`.
pub struct Session {
    stream: UnixStream,
    out: BytesMut,
    /// Received, and not looked at yet.
    received: BytesMut,
    values: Vec<i32>,
}

impl Session {
    /// Connects without a password.
    pub fn connect(config: &postgres::Config) -> Result<Self> {
        let (Some(Host::Unix(folder)), Some(port)) = (config.get_hosts().first(), config.get_ports().first())
        else {
            bail!("a socket and a port are needed")
        };
        let stream = UnixStream::connect(folder.join(format!(".s.PGSQL.{port}")))?;
        let mut session =
            Self { stream, out: BytesMut::new(), received: BytesMut::new(), values: Vec::new() };
        let user = config.get_user().context("no user is named")?;
        let database = config.get_dbname().unwrap_or(user);
        frontend::startup_message([("user", user), ("database", database)], &mut session.out)?;
        session.run()?;
        Ok(session)
    }

    /// Runs statements without parameters.
    pub fn execute(&mut self, sql: &str) -> Result<()> {
        frontend::query(sql, &mut self.out)?;
        self.run()
    }

    /// Prepares the statement.
    pub fn prepare(&mut self, sql: &str) -> Result<()> {
        frontend::parse("", sql, [], &mut self.out)?;
        frontend::sync(&mut self.out);
        self.run()
    }

    /// Runs the prepared statement; the column that it returns. The parameter comes in binary.
    pub fn query(&mut self, parameter: &[u8]) -> Result<&[i32]> {
        let put = |bytes: &[u8], out: &mut BytesMut| {
            out.extend_from_slice(bytes);
            Ok(IsNull::No)
        };
        frontend::bind("", "", [BINARY], [parameter], put, [BINARY], &mut self.out).map_err(|error| {
            match error {
                BindError::Conversion(error) => anyhow::anyhow!(error),
                BindError::Serialization(error) => error.into(),
            }
        })?;
        frontend::execute("", 0, &mut self.out)?;
        frontend::sync(&mut self.out);
        self.run()?;
        Ok(&self.values)
    }

    /// Sends what is to be sent, and reads answers until the server waits again.
    fn run(&mut self) -> Result<()> {
        self.stream.write_all(&self.out)?;
        self.out.clear();
        self.values.clear();
        let mut failure = None;
        loop {
            match Message::parse(&mut self.received)? {
                Some(Message::DataRow(row)) => {
                    // The length of the only value comes before it.
                    let value = row.buffer().get(4..).and_then(|bytes| bytes.try_into().ok());
                    self.values.push(i32::from_be_bytes(value.context("no column of int4")?));
                }
                Some(Message::ErrorResponse(error)) => {
                    let fields = error.fields().map(|field| Ok(field.value_bytes().to_vec()));
                    let parts: Vec<_> = fields.collect()?;
                    let parts: Vec<_> = parts.iter().map(|part| String::from_utf8_lossy(part)).collect();
                    failure = Some(parts.join(", "));
                }
                Some(Message::ReadyForQuery(_)) => break,
                Some(_) => {}
                None => self.receive()?,
            }
        }
        match failure {
            Some(failure) => bail!(failure),
            None => Ok(()),
        }
    }

    fn receive(&mut self) -> Result<()> {
        let before = self.received.len();
        self.received.resize(before + CHUNK, 0);
        let n = self.stream.read(&mut self.received[before..])?;
        self.received.truncate(before + n);
        ensure!(n > 0, "the server has closed the connection");
        Ok(())
    }
}
