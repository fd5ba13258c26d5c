//! The source: from the name of its server to the posts that a run would read first.

use std::{
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use tokio::time::{Instant, timeout_at};

use super::{
    network::{Connecting, PATIENCE, connect, known, look_up, shown, unknown},
    rows::Row,
};
use crate::{
    commands::post::Plan,
    failure::{Exit, Failure},
    post::{Kind, PerKind, Post, Record},
    source::{Database, NoLogin, Oddities, RowCount, TableFacts},
    summary::grouped,
};

/// Posts that are read to know what the others are like.
const SAMPLE: u64 = 500;
/// Where every key has an index they take some milliseconds.
const SAMPLE_PATIENCE: Duration = Duration::from_secs(5);

/// What is known of the source.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) rows: Vec<Row>,
    /// The first posts that a run would read; empty if they cannot be read.
    pub(super) posts: Vec<Post>,
    /// How many there are in all, about, if that is known.
    pub(super) total: Option<u64>,
}

pub(super) async fn look(plan: &Plan, exact: bool) -> Found {
    let (mut rows, reached) = reach(&plan.database).await;
    let names = Kind::ALL.map(|kind| format!("{kind} table"));
    if !reached {
        let because = "the database cannot be reached";
        rows.extend(names.map(|name| Row::untried(name, because)));
        rows.push(Row::untried("posts", because));
        return Found {
            rows,
            ..Found::default()
        };
    }
    let [pin, geo, user] = Kind::ALL.map(|kind| table(plan, kind, exact));
    let (pin, geo, user, sample) = tokio::join!(pin, geo, user, sample(plan));
    let tables = [pin, geo, user];
    for (name, table) in names.into_iter().zip(&tables) {
        rows.push(match table {
            Ok((table, facts)) => table_row(name, table, facts),
            Err(failure) => Row::of(name, failure),
        });
    }
    let [pin, geo, user] = tables.map(|table| table.ok().map(|(_, facts)| facts.rows));
    let counts = pin
        .zip(geo)
        .zip(user)
        .map(|((pin, geo), user)| [pin, geo, user]);
    let Some(counts) = counts else {
        rows.push(Row::untried("posts", "a table cannot be used"));
        return Found {
            rows,
            ..Found::default()
        };
    };
    let sample = match sample {
        Ok(sample) => sample,
        Err(failure) => {
            rows.push(Row::of("posts", &failure));
            return Found {
                rows,
                ..Found::default()
            };
        }
    };
    rows.push(posts_row(plan, &sample, counts));
    Found {
        rows,
        posts: sample.posts,
        total: counts.iter().filter_map(|rows| rows.number()).min(),
    }
}

/// Name, connection and login; whether all of them are well.
async fn reach(database: &Database) -> (Vec<Row>, bool) {
    let log_in = async {
        match database.log_in(PATIENCE).await {
            Ok(mut inspection) => {
                let server = inspection.server().await.map_err(NoLogin::Refused);
                inspection.close().await;
                server
            }
            Err(no_login) => Err(no_login),
        }
    };
    let Some((host, port)) = database.address() else {
        let row = match log_in.await {
            Ok(server) => Row::ok(
                "database login",
                format!("{}: {}", database.name(), server.version),
            ),
            Err(no_login) => no_login_row(database, no_login),
        };
        let reached = !row.is_failed();
        return (vec![row], reached);
    };
    let (addresses, server) = tokio::join!(look_up(host, port), log_in);
    let mut rows = Vec::new();
    let addresses = match addresses {
        Ok(addresses) => addresses,
        Err(why) => {
            rows.push(unknown("database name", host, &why, "--database-url"));
            for name in ["database connection", "database login"] {
                rows.push(Row::untried(name, "the name leads nowhere"));
            }
            return (rows, false);
        }
    };
    rows.push(known("database name", host, &addresses));
    let place = format!("{host}:{port}");
    let taken = Row::ok("database connection", format!("{place} takes connections"));
    match server {
        Ok(server) => {
            let encrypted = match server.tls {
                Some(version) => format!("encrypted with {version}"),
                None => "not encrypted".to_owned(),
            };
            let what = format!("{}: {}, {encrypted}", database.name(), server.version);
            rows.extend([taken, Row::ok("database login", what)]);
            return (rows, true);
        }
        Err(no_login @ NoLogin::Refused(_)) => {
            rows.extend([taken, no_login_row(database, no_login)]);
        }
        Err(no_login) => match no_connection_row(&place, &addresses).await {
            Some(row) => {
                rows.extend([
                    row,
                    Row::untried("database login", "there is no connection"),
                ]);
            }
            None => rows.extend([taken, no_login_row(database, no_login)]),
        },
    }
    (rows, false)
}

/// None if there is a connection.
async fn no_connection_row(place: &str, addresses: &[SocketAddr]) -> Option<Row> {
    let (what, cure) = match connect(addresses).await {
        Connecting::Done => return None,
        Connecting::Refused => (
            format!("{place} refused the connection"),
            "is the database running, and on this port? Check host and port in --database-url",
        ),
        Connecting::Silent => (
            format!("{place} does not answer"),
            "the database is stopped, or a firewall drops what this machine sends: start it, and let this machine in (on RDS: public access, and an inbound rule of the security group for this port)",
        ),
        Connecting::Failed(kind) => (
            format!("there is no way to {place}: {kind}"),
            "check host and port in --database-url, and the network of this machine",
        ),
    };
    Some(Row::failed(
        "database connection",
        Exit::Unreachable,
        what,
        cure,
    ))
}

fn no_login_row(database: &Database, no_login: NoLogin) -> Row {
    const NAME: &str = "database login";
    match no_login {
        NoLogin::Refused(failure) => Row::of(NAME, &failure),
        NoLogin::Silent => Row::failed(
            NAME,
            Exit::Unreachable,
            format!("{} says nothing for {}", database.name(), shown(PATIENCE)),
            "it is asleep or busy (a paused cluster takes half a minute to wake: try again), or what listens on this port is no MySQL server",
        ),
        NoLogin::Unreachable(why) => Row::failed(
            NAME,
            Exit::Unreachable,
            format!(
                "{} does not talk as a MySQL server does: {why}",
                database.name()
            ),
            "check host and port in --database-url; if it is one, check its TLS (ssl-mode in --database-url)",
        ),
    }
}

async fn table(plan: &Plan, kind: Kind, exact: bool) -> Result<(String, TableFacts), Failure> {
    let args = &plan.args;
    let names = [&args.pin_table, &args.geo_table, &args.user_table];
    let name = names[kind as usize];
    let mut inspection = match plan.database.log_in(PATIENCE).await {
        Ok(inspection) => inspection,
        Err(NoLogin::Refused(failure)) => return Err(failure),
        Err(NoLogin::Silent) => {
            let text = format!("{} takes no further connection", plan.database.name());
            return Err(Failure::new(Exit::Unreachable, text));
        }
        Err(NoLogin::Unreachable(why)) => return Err(Failure::new(Exit::Unreachable, why)),
    };
    let facts = inspection
        .table(kind, &plan.source_options(None), exact)
        .await;
    inspection.close().await;
    Ok((name.clone(), facts?))
}

fn table_row(row: String, table: &str, facts: &TableFacts) -> Row {
    let rows = match facts.rows {
        RowCount::Counted(rows) => format!("{} rows", grouped(rows)),
        RowCount::Estimated(rows) => format!("about {} rows", grouped(rows)),
        RowCount::Some => "rows that the server has not counted yet".to_owned(),
    };
    let what = format!(
        "{table}: {rows}, {} columns, key column {}",
        facts.columns, facts.key
    );
    if facts.view {
        Row::ok(
            row,
            format!("{what}, a view: fast only with an index behind it"),
        )
    } else if let Some(create_index) = facts.create_time_index.as_ref().filter(|_| facts.indexed) {
        Row::warning(
            row,
            format!("{what}, without an index on its time, which makes --order time slow"),
            format!("make one: {create_index}"),
        )
    } else if facts.indexed {
        Row::ok(row, format!("{what}, indexed"))
    } else {
        let cure = format!("make one: {}", facts.create_index);
        Row::warning(
            row,
            format!("{what}, without an index, which makes a run slow"),
            cure,
        )
    }
}

/// The first posts of the run.
struct Sample {
    posts: Vec<Post>,
    oddities: Oddities,
    /// Whether there was no time for all of them.
    cut: bool,
}

/// Reads as a run does, in its order and range.
async fn sample(plan: &Plan) -> Result<Sample, Failure> {
    let deadline = Instant::now() + SAMPLE_PATIENCE;
    let count = plan.args.count.map_or(SAMPLE, |count| count.0.min(SAMPLE));
    let wanted = usize::try_from(count).unwrap_or(usize::MAX);
    let mut sample = Sample {
        posts: Vec::new(),
        oddities: Oddities::default(),
        cut: true,
    };
    let read = plan.database.clone().read(plan.source_options(Some(count)));
    let Ok(reading) = timeout_at(deadline, read).await else {
        return Ok(sample);
    };
    let mut reading = reading?;
    while let Ok(chunk) = timeout_at(deadline, reading.next()).await {
        if let Some(chunk) = chunk {
            sample.posts.extend(chunk?);
            if sample.posts.len() < wanted {
                continue;
            }
        }
        sample.cut = false;
        break;
    }
    sample.posts.truncate(wanted);
    sample.oddities = reading.oddities();
    Ok(sample)
}

fn posts_row(plan: &Plan, sample: &Sample, counts: [RowCount; 3]) -> Row {
    const NAME: &str = "posts";
    let read = sample.posts.len();
    if sample.cut {
        let what = format!("only {read} could be read in {}", shown(SAMPLE_PATIENCE));
        return Row::warning(
            NAME,
            what,
            "see to the indexes above; with --order index a run starts at once",
        );
    }
    if read == 0 && plan.is_resumed() {
        return Row::ok(NAME, "nothing is left to post");
    }
    if read == 0 {
        return Row::of(NAME, &plan.no_rows(&sample.oddities));
    }
    let mut odd = plan.odd(&sample.oddities, "would not be posted");
    if let [
        RowCount::Counted(pin),
        RowCount::Counted(geo),
        RowCount::Counted(user),
    ] = counts
        && (pin != geo || geo != user)
    {
        odd.push(format!(
            "the tables have {}, {} and {} rows",
            grouped(pin),
            grouped(geo),
            grouped(user)
        ));
    }
    let first = match read {
        1 => "the first post is whole".to_owned(),
        read => format!("the first {read} posts are whole"),
    };
    if odd.is_empty() {
        Row::ok(NAME, first)
    } else {
        let cure = "a run posts the others and names these; fill in the missing rows if they should go too";
        Row::warning(NAME, format!("{first}; {}", odd.join("; ")), cure)
    }
}

/// When the posts happened, against how long the target keeps what it gets.
pub(super) fn event_times(posts: &[Post], kept: &str) -> Option<Row> {
    let times = posts.iter().filter_map(|post| {
        let record = post.records[Kind::Geo].as_ref()?;
        let record: serde_json::Value = serde_json::from_slice(record).ok()?;
        let text = record.get("timestamp")?.as_str()?.to_owned();
        Some((time(&text)?, text))
    });
    let mut times: Vec<_> = times.collect();
    times.sort();
    let ((_, first), (_, last)) = (times.first()?, times.last()?);
    let what = format!(
        "{first} to {last} in these posts; {kept}, counted from its arrival and not from these times"
    );
    Some(Row::ok("event times", what))
}

/// A time as databases print it.
pub(super) fn time(text: &str) -> Option<SystemTime> {
    humantime::parse_rfc3339_weak(text).ok()
}

/// The mean size of the records of each kind, in bytes.
pub(super) fn mean_sizes(posts: &[Post]) -> Option<PerKind<f64>> {
    if posts.is_empty() {
        return None;
    }
    #[expect(clippy::cast_precision_loss, reason = "sizes of a few hundred records")]
    let mean = |kind: Kind| {
        let records = posts.iter().filter_map(|post| post.records[kind].as_ref());
        records.map(Record::len).sum::<usize>() as f64 / posts.len() as f64
    };
    Some(PerKind::new(mean))
}
