//! A target that answers as a script says: what no real server does on demand.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

/// A request that arrived.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
    /// How often the same method and path came before.
    pub(crate) turn: usize,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// The records in it: of a Kafka proxy's request, or of a gateway's of either form.
    pub(crate) fn records(&self) -> Vec<Value> {
        let body: Value = serde_json::from_str(&self.body).unwrap();
        match &body["records"] {
            Value::Array(records) => records.clone(),
            _ => vec![body],
        }
    }

    /// Whether it asks only if a topic or stream is there.
    pub(crate) fn is_question(&self) -> bool {
        self.method == "GET"
    }

    /// Yes to a question; else what the script says.
    pub(crate) fn or_there(&self, script: impl FnOnce(&Self) -> Reply) -> Reply {
        if self.is_question() {
            Reply::json(200, "{}")
        } else {
            script(self)
        }
    }

    /// Proof of all its records but those that `instead` puts something else in place of, as the target writes it.
    pub(crate) fn proven(&self, instead: impl Fn(usize) -> Option<Value>) -> Reply {
        let kafka = self.path.contains("/topics/");
        let results: Vec<Value> = (0..self.records().len())
            .map(|i| {
                instead(i).unwrap_or_else(|| {
                    if kafka {
                        json!({"partition": 0, "offset": i, "error_code": null, "error": null})
                    } else {
                        json!({"SequenceNumber": format!("4959{i}"), "ShardId": "shardId-000000000000"})
                    }
                })
            })
            .collect();
        let body = if kafka {
            json!({"key_schema_id": null, "value_schema_id": null, "offsets": results})
        } else if self.path.ends_with("/records") {
            json!({"FailedRecordCount": 0, "Records": results})
        } else {
            results[0].clone()
        };
        Reply::json(200, &body.to_string())
    }

    /// Proof of all its records.
    pub(crate) fn all_proven(&self) -> Reply {
        self.proven(|_| None)
    }
}

/// What to do about a request.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    Answer {
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: String,
    },
    /// Close the connection without a word.
    Cut,
    /// Close it in the middle of the body.
    CutBody,
    /// Never answer.
    Hang,
}

impl Reply {
    pub(crate) fn new(status: u16, content_type: &'static str, body: &str) -> Self {
        Self::Answer {
            status,
            headers: vec![("Content-Type", content_type.to_owned())],
            body: body.to_owned(),
        }
    }

    pub(crate) fn json(status: u16, body: &str) -> Self {
        Self::new(status, "application/json", body)
    }

    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        if let Self::Answer { headers, .. } = &mut self {
            headers.push((name, value.to_owned()));
        }
        self
    }
}

/// The scripted target on a free port; it remembers what it was asked.
pub(crate) struct Target {
    scheme: &'static str,
    port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Target {
    pub(crate) fn start(script: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        Self::listen("http", script, |stream| stream)
    }

    /// One that speaks TLS; each connection gets what `config` says then.
    pub(crate) fn over_tls(
        config: impl Fn() -> Arc<ServerConfig> + Send + Sync + 'static,
        script: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::listen("https", script, move |stream| {
            StreamOwned::new(ServerConnection::new(config()).unwrap(), stream)
        })
    }

    /// `open`: what a connection is read and written through.
    fn listen<S: Read + Write>(
        scheme: &'static str,
        script: impl Fn(&Asked) -> Reply + Send + Sync + 'static,
        open: impl Fn(TcpStream) -> S + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::<Mutex<Vec<Asked>>>::default();
        let (log, script, open) = (Arc::clone(&asked), Arc::new(script), Arc::new(open));
        let turns = Arc::<Mutex<HashMap<String, usize>>>::default();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (log, script, turns) =
                    (Arc::clone(&log), Arc::clone(&script), Arc::clone(&turns));
                let open = Arc::clone(&open);
                // A client that goes away ends its thread.
                thread::spawn(move || serve(open(stream), &log, &turns, script.as_ref()));
            }
        });
        Self {
            scheme,
            port,
            asked,
        }
    }

    /// One that says nothing, not even who it is.
    pub(crate) fn mute() -> Self {
        Self::start(|_| Reply::Hang)
    }

    /// One that proves everything.
    pub(crate) fn healthy() -> Self {
        Self::start(|asked| asked.or_there(Asked::all_proven))
    }

    pub(crate) fn url(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.port)
    }

    /// All that it was asked.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// The requests that brought records to one topic or stream, in the order of their arrival.
    pub(crate) fn sent_to(&self, target: &str) -> Vec<Asked> {
        self.asked()
            .into_iter()
            .filter(|asked| !asked.is_question() && asked.path.contains(&format!("/{target}")))
            .collect()
    }
}

fn serve(
    stream: impl Read + Write,
    log: &Mutex<Vec<Asked>>,
    turns: &Mutex<HashMap<String, usize>>,
    script: &(impl Fn(&Asked) -> Reply + ?Sized),
) -> Option<()> {
    let mut reader = BufReader::new(stream);
    while let Some(mut asked) = read(&mut reader) {
        {
            let mut turns = turns.lock().unwrap();
            let turn = turns
                .entry(format!("{} {}", asked.method, asked.path))
                .or_default();
            asked.turn = *turn;
            *turn += 1;
        }
        log.lock().unwrap().push(asked.clone());
        let writer = reader.get_mut();
        match script(&asked) {
            Reply::Answer {
                status,
                headers,
                body,
            } => {
                write!(
                    writer,
                    "HTTP/1.1 {status} X\r\nContent-Length: {}\r\n",
                    body.len()
                )
                .ok()?;
                for (name, value) in headers {
                    write!(writer, "{name}: {value}\r\n").ok()?;
                }
                write!(writer, "\r\n{body}").ok()?;
            }
            Reply::Cut => return None,
            Reply::CutBody => {
                write!(
                    writer,
                    "HTTP/1.1 200 X\r\nContent-Length: 1000\r\n\r\n{{\"off"
                )
                .ok()?;
                return None;
            }
            Reply::Hang => {
                // Until the client closes.
                let _ = reader.read(&mut [0]);
                return None;
            }
        }
    }
    None
}

fn read(reader: &mut impl BufRead) -> Option<Asked> {
    let mut lines = reader.by_ref().lines();
    let first = lines.next()?.ok()?;
    let mut words = first.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    for line in lines {
        let line = line.ok()?;
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers
        .iter()
        .find(|(name, _)| name == "content-length")
        .map_or(0, |(_, value)| value.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Asked {
        method,
        path,
        headers,
        body: String::from_utf8(body).unwrap(),
        turn: 0,
    })
}
