//! `pinemu serve`: a receiver until it is told to stop.

use std::{fmt::Write, fs, path::Path};

use rand::Rng;
use tokio_util::sync::CancellationToken;

use crate::{
    cli::{DialectArg, GatewayArg, ServeArgs},
    failure::{Exit, Failure, OrExit},
    receiver::{Counts, Dialect, GatewayErrors, Options, Plan, Receiver},
    summary::grouped,
    telemetry::{print_result, say},
};

pub(crate) async fn run(args: ServeArgs, stop: CancellationToken) -> Result<Exit, Failure> {
    let data_dir = (!args.discard).then(|| args.data_dir.clone());
    let records = match &data_dir {
        Some(dir) => format!("records land in {}", dir.display()),
        None => "records are counted and discarded".to_owned(),
    };
    let (faults, seed) = plan(&args)?;
    let receiver = Receiver::start(Options {
        listen: args.listen,
        data_dir,
        partitions: args.partitions,
        flush_size: args.flush_size.0,
        flush_after: args.flush_after,
        topics: args.topics,
        streams: args.streams,
        dialect: match args.dialect {
            DialectArg::Confluent => Dialect::Confluent,
            DialectArg::Strimzi => Dialect::Strimzi,
            DialectArg::Karapace => Dialect::Karapace,
            DialectArg::Redpanda => Dialect::Redpanda,
        },
        gateway: match args.gateway {
            GatewayArg::Default200 => GatewayErrors::Default200,
            GatewayArg::Mapped => GatewayErrors::Mapped,
        },
        faults,
    })
    .await?;
    let addr = receiver.addr();
    if !args.output.quiet {
        say(&format!(
            "listening on http://{addr}, {records}; stop with Ctrl-C"
        ));
        if let Some(seed) = seed {
            say(&format!(
                "goes wrong on purpose; --fault-seed {seed} repeats it"
            ));
        }
    }
    let written = args
        .port_file
        .as_deref()
        .map_or(Ok(()), |path| write_port(path, addr.port()));
    if written.is_ok() {
        stop.cancelled().await;
    }
    let counts = receiver.stop().await?;
    written?;
    if !args.output.quiet {
        print_result("the counts of what landed", &report(&counts))?;
    }
    Ok(Exit::Success)
}

/// What goes wrong on purpose, and the seed of it.
fn plan(args: &ServeArgs) -> Result<(Option<Plan>, Option<u64>), Failure> {
    if args.fault.is_empty() {
        return Ok((None, None));
    }
    let seed = args.fault_seed.unwrap_or_else(|| rand::rng().next_u64());
    let plan = Plan::new(&args.fault, seed).map_err(|error| Failure::new(Exit::Usage, error))?;
    Ok((Some(plan), Some(seed)))
}

/// Who waits for the file finds all of it or none.
fn write_port(path: &Path, port: u16) -> Result<(), Failure> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let written =
        fs::write(&temporary, format!("{port}\n")).and_then(|()| fs::rename(&temporary, path));
    written.or_exit(Exit::CannotWrite, || {
        format!("cannot write the port file {}", path.display())
    })
}

fn report(counts: &Counts) -> String {
    let mut text = String::new();
    for (kind, records) in [("topic", &counts.topics), ("stream", &counts.streams)] {
        for (name, &count) in records {
            let s = if count == 1 { "" } else { "s" };
            // A string cannot refuse what is written to it.
            let _ = writeln!(text, "{kind} {name}: {} record{s}", grouped(count));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, ffi::OsString, time::Duration};

    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    #[test]
    fn the_report_has_a_line_for_each_topic_and_stream() {
        let counts = Counts {
            topics: BTreeMap::from([("a.pin".to_owned(), 1)]),
            streams: BTreeMap::from([("a-geo".to_owned(), 20), ("a-user".to_owned(), 0)]),
        };
        let expected =
            "topic a.pin: 1 record\nstream a-geo: 20 records\nstream a-user: 0 records\n";
        assert_eq!(report(&counts), expected);
    }

    fn serve(options: &[&str]) -> Result<ServeArgs, clap::Error> {
        let line = ["pinemu", "serve"].iter().chain(options);
        match Cli::try_parse_from(line)?.command {
            Command::Serve(args) => Ok(args),
            other => panic!("not serve: {other:?}"),
        }
    }

    #[test]
    fn faults_that_cannot_be_are_usage_errors() {
        let args = serve(&["--fault", "503=60%", "--fault", "hang=41%"]).unwrap();
        assert_eq!(plan(&args).unwrap_err().exit, Exit::Usage);
        let unknown = serve(&["--fault", "slow=1%"]).unwrap_err().to_string();
        assert!(unknown.contains("record-error=5%"), "{unknown}");
        assert!(serve(&["--fault-seed", "1"]).is_err());
    }

    #[test]
    fn faults_have_a_seed_and_no_faults_have_none() {
        let (plan_of, seed) = plan(&serve(&[]).unwrap()).unwrap();
        assert!(plan_of.is_none() && seed.is_none());
        let given = serve(&["--fault", "503=1%", "--fault-seed", "7"]).unwrap();
        assert_eq!(plan(&given).unwrap().1, Some(7));
        let drawn = serve(&["--fault", "503=1%"]).unwrap();
        assert!(plan(&drawn).unwrap().1.is_some());
    }

    #[tokio::test]
    async fn the_port_is_written_once_connections_are_taken() {
        let dir = tempfile::tempdir().unwrap();
        let port_file = dir.path().join("port");
        let data_dir = dir.path().join("data");
        let line = ["pinemu", "serve", "--listen", "127.0.0.1:0", "--data-dir"]
            .map(OsString::from)
            .into_iter()
            .chain([
                data_dir.into(),
                "--port-file".into(),
                port_file.clone().into(),
            ]);
        let Command::Serve(args) = Cli::parse_from(line).command else {
            panic!("not serve")
        };
        let stop = CancellationToken::new();
        let running = tokio::spawn(run(args, stop.clone()));
        let port = loop {
            match fs::read_to_string(&port_file) {
                Ok(port) => break port,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        };
        let address = format!("127.0.0.1:{}", port.trim());
        tokio::net::TcpStream::connect(address).await.unwrap();
        stop.cancel();
        assert_eq!(running.await.unwrap().unwrap(), Exit::Success);
    }
}
