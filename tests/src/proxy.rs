//! A fault proxy: sits on the link between one of our programs and a service, and breaks it in the
//! ways networks break, while both run.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Most bytes in the proxy's own hands, per connection and direction.
const CHUNK_BYTES: usize = 16 * 1024;
/// A request longer than this in the middle of a 503 is cut off, as a real store would do.
const REFUSED_BODY_BYTES: usize = 1 << 20;

/// To a HEAD, which has no body.
const FORBIDDEN: &str = "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// How a link behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Everything passes.
    Pass,
    /// Everything passes, each chunk this much later.
    Delay(Duration),
    /// Connections are accepted and stay open; nothing passes until the fault is over, and then what
    /// was held back does, as after a healed partition.
    BlackHole,
    /// At most so many bytes a second, per connection and direction.
    Limit(u32),
    /// HTTP: each new request is answered with 503 and goes nowhere. What is under way passes.
    Unavailable,
    /// HTTP: each new HEAD is answered with 403.
    NoLook,
}

/// What the connections of a proxy share.
#[derive(Debug)]
struct Link {
    upstreams: Vec<String>,
    next: AtomicUsize,
    open: AtomicUsize,
    fault: watch::Receiver<Fault>,
    /// Counts the resets; a connection ends when it changes.
    resets: watch::Receiver<u64>,
    /// Counts the losses; a connection that saw one never passes a byte again.
    losses: watch::Receiver<u64>,
}

/// A running proxy. Dropping it closes everything.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    link: Arc<Link>,
    fault: watch::Sender<Fault>,
    resets: watch::Sender<u64>,
    losses: watch::Sender<u64>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// Listens on a free port; what connects goes to the upstreams in turn, past those that refuse.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn start(upstreams: &[&str]) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (fault, resets, losses) = (
            watch::Sender::new(Fault::Pass),
            watch::Sender::new(0),
            watch::Sender::new(0),
        );
        let link = Arc::new(Link {
            upstreams: upstreams.iter().map(|to| (*to).to_owned()).collect(),
            next: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            fault: fault.subscribe(),
            resets: resets.subscribe(),
            losses: losses.subscribe(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&link)));
        Ok(Self {
            address,
            link,
            fault,
            resets,
            losses,
            _tasks: tasks,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on the link behaves so.
    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }

    /// Ends every connection with a RST.
    pub fn reset(&self) {
        self.resets.send_modify(|count| *count += 1);
    }

    /// Every open connection goes deaf and dumb for ever, with no word to either end: a firewall has
    /// forgotten them. New ones pass.
    pub fn lose_connections(&self) {
        self.losses.send_modify(|count| *count += 1);
    }

    /// How many connections are open.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.link.open.load(Ordering::SeqCst)
    }
}

async fn accept(listener: TcpListener, link: Arc<Link>) {
    // Ends with the proxy, and all connections with it.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((client, _)) = accepted {
                    connections.spawn(Connection::serve(Arc::clone(&link), client));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// One connection through the proxy.
struct Connection {
    fault: watch::Receiver<Fault>,
    losses: watch::Receiver<u64>,
    client: TcpStream,
    server: OnceLock<TcpStream>,
    /// The server spoke last: what the client says now is a new request.
    answered: AtomicBool,
}

impl Connection {
    async fn serve(link: Arc<Link>, client: TcpStream) {
        link.open.fetch_add(1, Ordering::SeqCst);
        let mut resets = link.resets.clone();
        resets.mark_unchanged();
        let mut losses = link.losses.clone();
        losses.mark_unchanged();
        let connection = Self {
            fault: link.fault.clone(),
            losses,
            client,
            server: OnceLock::new(),
            answered: AtomicBool::new(true),
        };
        tokio::select! {
            () = connection.run(&link) => {}
            _ = resets.changed() => connection.reset_on_drop(),
        }
        link.open.fetch_sub(1, Ordering::SeqCst);
    }

    async fn run(&self, link: &Link) {
        let mut fault = self.fault.clone();
        self.pass_the_fault(&mut fault, 0).await;
        if *fault.borrow() == Fault::Unavailable {
            return refuse(&self.client, &[]).await;
        }
        let Some(server) = link.connect().await else {
            // As if nobody listened.
            return self.reset_on_drop();
        };
        let server = self.server.get_or_init(|| server);
        tokio::select! {
            () = self.requests(server) => {}
            () = self.answers(server) => {}
        }
    }

    fn reset_on_drop(&self) {
        for stream in std::iter::once(&self.client).chain(self.server.get()) {
            // Fails when it is closed already.
            let _ = stream.set_zero_linger();
        }
    }

    /// Client to server, until either ends.
    async fn requests(&self, server: &TcpStream) {
        let mut fault = self.fault.clone();
        let mut chunk = vec![0; CHUNK_BYTES];
        while let Some(length) = read(&self.client, &mut chunk).await {
            self.pass_the_fault(&mut fault, length).await;
            let new = self.answered.swap(false, Ordering::SeqCst);
            let fault = *fault.borrow();
            if new && fault == Fault::Unavailable {
                return refuse(&self.client, &chunk[..length]).await;
            }
            if new && fault == Fault::NoLook && chunk.starts_with(b"HEAD ") {
                write(&self.client, FORBIDDEN.as_bytes()).await;
                return;
            }
            if !write(server, &chunk[..length]).await {
                return;
            }
        }
    }

    /// Server to client, until either ends.
    async fn answers(&self, server: &TcpStream) {
        let mut fault = self.fault.clone();
        let mut chunk = vec![0; CHUNK_BYTES];
        while let Some(length) = read(server, &mut chunk).await {
            self.pass_the_fault(&mut fault, length).await;
            self.answered.store(true, Ordering::SeqCst);
            if !write(&self.client, &chunk[..length]).await {
                return;
            }
        }
        // The server's end is news, too: a black hole keeps it.
        self.pass_the_fault(&mut fault, 0).await;
    }

    /// Returns when `length` bytes may pass.
    async fn pass_the_fault(&self, fault: &mut watch::Receiver<Fault>, length: usize) {
        let pause = match *fault.borrow_and_update() {
            Fault::Delay(pause) => pause,
            Fault::Limit(rate) => {
                let bytes = u32::try_from(length).unwrap_or(u32::MAX);
                Duration::from_secs(1) * bytes / rate.max(1)
            }
            Fault::Pass | Fault::BlackHole | Fault::Unavailable | Fault::NoLook => Duration::ZERO,
        };
        // A slow link that recovers is quick at once.
        let _ = tokio::time::timeout(pause, fault.changed()).await;
        // The sender lives as long as this task.
        let _ = fault.wait_for(|fault| *fault != Fault::BlackHole).await;
        if self.losses.has_changed().unwrap_or(false) {
            std::future::pending::<()>().await;
        }
    }
}

impl Link {
    async fn connect(&self) -> Option<TcpStream> {
        for _ in 0..self.upstreams.len() {
            let turn = self.next.fetch_add(1, Ordering::SeqCst) % self.upstreams.len();
            if let Ok(server) = TcpStream::connect(&self.upstreams[turn]).await {
                let _ = server.set_nodelay(true);
                return Some(server);
            }
        }
        None
    }
}

async fn read(from: &TcpStream, chunk: &mut [u8]) -> Option<usize> {
    loop {
        from.readable().await.ok()?;
        match from.try_read(chunk) {
            Ok(0) => return None,
            Ok(length) => return Some(length),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return None,
        }
    }
}

async fn write(to: &TcpStream, mut bytes: &[u8]) -> bool {
    while !bytes.is_empty() {
        if to.writable().await.is_err() {
            return false;
        }
        match to.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return false,
        }
    }
    true
}

/// Reads a whole request, of which `begun` was read before, and answers it with 503.
async fn refuse(client: &TcpStream, begun: &[u8]) {
    let mut request = begun.to_vec();
    let mut chunk = vec![0; CHUNK_BYTES];
    while missing(&request) && request.len() < REFUSED_BODY_BYTES {
        match read(client, &mut chunk).await {
            Some(length) => request.extend_from_slice(&chunk[..length]),
            None => return,
        }
    }
    let body = "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>ServiceUnavailable</Code>\
        <Message>a fault of the proxy</Message></Error>";
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/xml\r\n\
        content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    write(client, answer.as_bytes()).await;
}

/// Whether more of the request is to come. A chunked body counts as over with its last chunk.
fn missing(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, _)) = text.split_once("\r\n\r\n") else {
        return true;
    };
    let head = head.to_ascii_lowercase();
    let header = |name: &str| {
        head.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .map(str::trim)
    };
    if header("transfer-encoding").is_some_and(|coding| coding.contains("chunked")) {
        return !request.ends_with(b"0\r\n\r\n");
    }
    let body = request
        .windows(4)
        .position(|end| end == b"\r\n\r\n")
        .map_or(0, |at| request.len() - at - 4);
    // Who waits for "100 Continue" has not sent its body, and takes the 503 instead.
    let length = header("content-length").and_then(|length| length.parse::<usize>().ok());
    header("expect").is_none() && body < length.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::{Instant, timeout};

    use super::*;
    use crate::{DEADLINE, until};

    /// Long enough for anything to arrive that was not held back.
    const A_WHILE: Duration = Duration::from_millis(100);

    async fn echo() -> anyhow::Result<(JoinSet<()>, String)> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                connections.spawn(async move {
                    let (mut from, mut to) = stream.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        Ok((tasks, address))
    }

    async fn says_back(stream: &mut TcpStream, text: &[u8]) -> anyhow::Result<()> {
        stream.write_all(text).await?;
        hears(stream, text).await
    }

    async fn hears(stream: &mut TcpStream, text: &[u8]) -> anyhow::Result<()> {
        let mut answer = vec![0; text.len()];
        timeout(DEADLINE, stream.read_exact(&mut answer)).await??;
        anyhow::ensure!(answer == text, "another answer");
        Ok(())
    }

    #[tokio::test]
    async fn what_passes_is_unchanged_and_the_end_passes_too() -> anyhow::Result<()> {
        let (_echo, address) = echo().await?;
        let proxy = Proxy::start(&[&address]).await?;
        let mut stream = TcpStream::connect(proxy.address()).await?;
        let text: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
        let (mut from, mut to) = stream.split();
        let (sent, heard) = tokio::join!(to.write_all(&text), async {
            let mut heard = vec![0; text.len()];
            from.read_exact(&mut heard).await.map(|_| heard)
        });
        sent?;
        assert!(heard? == text);
        drop(stream);
        until("the connection is closed", DEADLINE, async || {
            Ok(proxy.connections() == 0)
        })
        .await
    }

    #[tokio::test]
    async fn a_black_hole_keeps_connections_open_and_lets_go_when_it_ends() -> anyhow::Result<()> {
        let (_echo, address) = echo().await?;
        let proxy = Proxy::start(&[&address]).await?;
        let mut old = TcpStream::connect(proxy.address()).await?;
        says_back(&mut old, b"before").await?;
        proxy.set(Fault::BlackHole);
        let mut new = TcpStream::connect(proxy.address()).await?;
        for stream in [&mut old, &mut new] {
            stream.write_all(b"during").await?;
            let mut byte = [0];
            assert!(timeout(A_WHILE, stream.read(&mut byte)).await.is_err());
        }
        assert_eq!(proxy.connections(), 2);
        proxy.set(Fault::Pass);
        hears(&mut old, b"during").await?;
        hears(&mut new, b"during").await
    }

    #[tokio::test]
    async fn a_reset_ends_every_connection_and_new_ones_work() -> anyhow::Result<()> {
        let (_echo, address) = echo().await?;
        let proxy = Proxy::start(&[&address]).await?;
        let mut old = TcpStream::connect(proxy.address()).await?;
        says_back(&mut old, b"before").await?;
        proxy.reset();
        let mut byte = [0];
        let ended = timeout(DEADLINE, old.read(&mut byte)).await?;
        assert_eq!(
            ended.map_err(|error| error.kind()),
            Err(std::io::ErrorKind::ConnectionReset)
        );
        let mut new = TcpStream::connect(proxy.address()).await?;
        says_back(&mut new, b"after").await
    }

    #[tokio::test]
    async fn lost_connections_stay_silent_while_new_ones_work() -> anyhow::Result<()> {
        let (_echo, address) = echo().await?;
        let proxy = Proxy::start(&[&address]).await?;
        let mut old = TcpStream::connect(proxy.address()).await?;
        says_back(&mut old, b"before").await?;
        proxy.lose_connections();
        old.write_all(b"after").await?;
        let mut new = TcpStream::connect(proxy.address()).await?;
        says_back(&mut new, b"after").await?;
        let mut byte = [0];
        assert!(timeout(A_WHILE, old.read(&mut byte)).await.is_err());
        Ok(())
    }

    #[tokio::test]
    async fn a_delay_and_a_limit_take_their_time() -> anyhow::Result<()> {
        let (_echo, address) = echo().await?;
        let proxy = Proxy::start(&[&address]).await?;
        let mut stream = TcpStream::connect(proxy.address()).await?;
        says_back(&mut stream, b"before").await?;
        // Both directions pay.
        for (fault, at_least) in [
            (Fault::Delay(Duration::from_millis(100)), 200),
            (Fault::Limit(10_000), 200),
        ] {
            proxy.set(fault);
            let begun = Instant::now();
            says_back(&mut stream, &[7; 1000]).await?;
            assert!(
                begun.elapsed() >= Duration::from_millis(at_least),
                "{fault:?}"
            );
        }
        Ok(())
    }

    #[tokio::test]
    async fn an_unavailable_store_answers_503_and_forwards_nothing() -> anyhow::Result<()> {
        let (_echo, address) = echo().await?;
        let proxy = Proxy::start(&[&address]).await?;
        let mut kept_alive = TcpStream::connect(proxy.address()).await?;
        says_back(&mut kept_alive, b"before").await?;
        proxy.set(Fault::Unavailable);
        let mut new = TcpStream::connect(proxy.address()).await?;
        for stream in [&mut kept_alive, &mut new] {
            stream
                .write_all(b"PUT /x HTTP/1.1\r\nContent-Length: 4\r\n\r\nbo")
                .await?;
            stream.write_all(b"dy").await?;
            let mut answer = String::new();
            timeout(DEADLINE, stream.read_to_string(&mut answer)).await??;
            assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
            assert!(!answer.contains("PUT"), "{answer}");
        }
        proxy.set(Fault::Pass);
        let mut after = TcpStream::connect(proxy.address()).await?;
        says_back(&mut after, b"after").await
    }

    #[tokio::test]
    async fn an_upstream_that_refuses_is_passed_over() -> anyhow::Result<()> {
        let (_echo, address) = echo().await?;
        let nobody = crate::services::free_address()?;
        let proxy = Proxy::start(&[&nobody, &address]).await?;
        for _ in 0..2 {
            let mut stream = TcpStream::connect(proxy.address()).await?;
            says_back(&mut stream, b"hello").await?;
        }
        Ok(())
    }

    #[test]
    fn the_end_of_a_request_is_known() {
        for (request, more) in [
            ("GET / HTTP/1.1\r\n", true),
            ("GET / HTTP/1.1\r\n\r\n", false),
            ("PUT / HTTP/1.1\r\ncontent-length: 2\r\n\r\na", true),
            ("PUT / HTTP/1.1\r\ncontent-length: 2\r\n\r\nab", false),
            (
                "PUT / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n",
                false,
            ),
            (
                "PUT / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n",
                true,
            ),
            (
                "PUT / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
                false,
            ),
        ] {
            assert_eq!(missing(request.as_bytes()), more, "{request}");
        }
    }
}
