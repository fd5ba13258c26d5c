//! `pinemu seed`: makes a seed database of synthetic posts, says how it went and what to try next.

use std::{path::Path, time::Instant};

use secrecy::ExposeSecret;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::{
    cli::SeedArgs,
    config::secret,
    failure::{Exit, Failure},
    progress::Progress,
    sample::Samples,
    seeding,
    source::Database,
    summary::grouped,
    telemetry::print_result,
    units::Count,
};

pub(crate) async fn run(args: SeedArgs, stop: CancellationToken) -> Result<Exit, Failure> {
    let SeedArgs {
        database_url,
        database_password_file,
        posts: Count(posts),
        random_seed,
        replace,
        progress,
    } = args;
    let password = secret(database_password_file.as_ref(), "PINEMU_DATABASE_PASSWORD")?;
    let target = Database::parse(&database_url, password.as_ref())?;
    let progress = Progress::new(progress, Some(posts));
    let started = Instant::now();
    let filled = seeding::fill(
        &target,
        Samples::new(posts, random_seed),
        replace,
        &progress,
        &stop,
    )
    .await;
    drop(progress);
    let written = filled?;
    if written < posts {
        let (written, posts) = (grouped(written), grouped(posts));
        let message = format!("stopped after {written} of {posts} posts; run again with --replace");
        return Err(Failure::new(Exit::CannotWrite, message));
    }
    let elapsed = started.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "shown without decimals")]
    let rate = posts as f64 / elapsed;
    let text = format!(
        "{} rows each in pinterest_data, geolocation_data and user_data: {elapsed:.1} s, {rate:.0} posts/s, random seed {random_seed}\n\
         Next: {}\n",
        grouped(posts),
        next_command(
            database_url.expose_secret(),
            database_password_file.as_deref()
        ),
    );
    print_result("that the tables are filled", &text)?;
    Ok(Exit::Success)
}

/// A run over the new database, to be pasted into a shell; it names the password's file, but never holds the password.
fn next_command(database_url: &str, password_file: Option<&Path>) -> String {
    let (mut variable, mut shown) = ("", database_url.to_owned());
    if let Ok(mut url) = Url::parse(database_url)
        && url.password().is_some()
        && url.set_password(None).is_ok()
    {
        shown = url.into();
        variable = if password_file.is_none() {
            "PINEMU_DATABASE_PASSWORD=... "
        } else {
            ""
        };
    }
    let quoted = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
    let file = password_file.map(|file| {
        format!(
            " --database-password-file {}",
            quoted(&file.to_string_lossy())
        )
    });
    format!(
        "{variable}pinemu batch --topic-prefix demo --invoke-url http://127.0.0.1:8082 --database-url {}{}",
        quoted(&shown),
        file.unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_command_holds_no_password() {
        let next = next_command("mysql+pymysql://u:s3cret@h/d?charset=utf8mb4", None);
        assert!(
            next.starts_with("PINEMU_DATABASE_PASSWORD=... pinemu batch "),
            "{next}"
        );
        assert!(
            next.ends_with("--database-url 'mysql+pymysql://u@h/d?charset=utf8mb4'"),
            "{next}"
        );
        let next = next_command("mysql://u:s3cret@h/d", Some(Path::new("a b")));
        assert!(
            next.ends_with("--database-url 'mysql://u@h/d' --database-password-file 'a b'"),
            "{next}"
        );
        assert!(
            next_command("sqlite:it's.db", None).ends_with(r"--database-url 'sqlite:it'\''s.db'")
        );
    }
}
