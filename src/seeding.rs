//! Makes a seed database: three tables of synthetic posts in MySQL, MariaDB or a SQLite file. Does not know how posts
//! are read, nor what the terminal is told.

mod database;
mod sql;

use std::{
    fs, io, mem,
    path::{Path, PathBuf},
};

use tokio_util::sync::CancellationToken;

use self::{
    database::Connected,
    sql::{Chunk, TIME_KEY},
};
use crate::{
    failure::{Exit, Failure, OrExit},
    progress::Progress,
    sample::Samples,
    source::Database,
};

/// Makes the tables and fills them, a chunk in a transaction. Tells how many posts are in: fewer than there are samples
/// if `stop` came first, which leaves the tables as they are.
pub(crate) async fn fill(
    target: &Database,
    samples: Samples,
    replace: bool,
    progress: &Progress,
    stop: &CancellationToken,
) -> Result<u64, Failure> {
    let mut database = Connected::open(target).await?;
    database.make_tables(replace).await?;
    let posts = samples.posts();
    let mut written = 0;
    let mut chunk = Chunk::default();
    for post in samples {
        chunk.push(&post);
        let last = post.index + 1 == posts;
        if !chunk.is_full() && !last {
            continue;
        }
        let chunk = mem::take(&mut chunk);
        let more = chunk.posts;
        database.write(chunk).await?;
        written += more;
        progress.advance(more);
        if stop.is_cancelled() && !last {
            return Ok(written);
        }
    }
    progress.say(|| "sorting by time".to_owned());
    database.execute(TIME_KEY.to_owned()).await?;
    database.close().await?;
    Ok(written)
}

/// Makes a SQLite seed database that exists only once it is complete. `false` if `stop` came first.
///
/// One at a time for each path: the caller holds a lock.
pub(crate) async fn make_file(
    path: &Path,
    samples: Samples,
    progress: &Progress,
    stop: &CancellationToken,
) -> Result<bool, Failure> {
    let with_suffix = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let part = with_suffix(".part");
    let cannot = || format!("cannot make the seed database {}", path.display());
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).or_exit(Exit::CannotWrite, cannot)?;
    }
    // What an earlier run did not finish. SQLite would roll the old journal back into the new file.
    for leftover in [&part, &with_suffix(".part-journal")] {
        match fs::remove_file(leftover) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).or_exit(Exit::CannotWrite, cannot);
            }
            _ => {}
        }
    }
    let posts = samples.posts();
    if fill(&Database::file(&part), samples, false, progress, stop).await? < posts {
        return Ok(false);
    }
    fs::rename(&part, path).or_exit(Exit::CannotWrite, cannot)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use sqlx::{
        ConnectOptions, Row,
        sqlite::{SqliteConnectOptions, SqliteRow},
    };
    use tempfile::TempDir;

    use super::*;
    use crate::progress::When;

    const POSTS: u64 = 2_000;

    async fn fill_file(
        path: &Path,
        replace: bool,
        stop: &CancellationToken,
    ) -> Result<u64, Failure> {
        let target = Database::file(path);
        fill(
            &target,
            Samples::new(POSTS, 7),
            replace,
            &Progress::new(When::Never, None),
            stop,
        )
        .await
    }

    async fn rows(path: &Path, sql: &'static str) -> Vec<SqliteRow> {
        let mut connection = SqliteConnectOptions::new()
            .filename(path)
            .connect()
            .await
            .unwrap();
        sqlx::query(sql).fetch_all(&mut connection).await.unwrap()
    }

    #[tokio::test]
    async fn a_file_holds_the_samples_with_nothing_changed() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("seed.db");
        assert_eq!(
            fill_file(&path, false, &CancellationToken::new())
                .await
                .unwrap(),
            POSTS
        );

        let joined = "SELECT * FROM pinterest_data p JOIN geolocation_data g ON g.ind = p.\"index\" \
                      JOIN user_data u ON u.ind = p.\"index\" ORDER BY p.\"index\"";
        let rows = rows(&path, joined).await;
        assert_eq!(rows.len() as u64, POSTS);
        for (row, post) in rows.iter().zip(Samples::new(POSTS, 7)) {
            assert_eq!(
                row.get::<i64, _>("index"),
                i64::try_from(post.index).unwrap()
            );
            assert_eq!(
                row.get::<i64, _>("downloaded"),
                i64::from(post.pin.downloaded)
            );
            assert_eq!(row.get::<i64, _>("age"), i64::from(post.user.age));
            for (column, text) in [
                ("unique_id", post.pin.unique_id),
                ("title", post.pin.title),
                ("description", post.pin.description),
                ("poster_name", post.pin.poster_name),
                ("tag_list", post.pin.tag_list),
                ("country", post.geo.country.to_owned()),
                ("last_name", post.user.last_name.to_owned()),
            ] {
                assert_eq!(row.get::<String, _>(column), text);
            }
            for (column, text) in [
                ("timestamp", post.geo.timestamp),
                ("date_joined", post.user.date_joined),
            ] {
                assert_eq!(row.get_unchecked::<String, _>(column), text.to_string());
            }
            for (column, degrees) in [
                ("latitude", post.geo.latitude),
                ("longitude", post.geo.longitude),
            ] {
                assert_eq!(row.get::<f64, _>(column).to_string(), degrees.to_string());
            }
        }
    }

    #[tokio::test]
    async fn tables_that_exist_are_kept_unless_they_are_to_be_replaced() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("seed.db");
        let stop = CancellationToken::new();
        fill_file(&path, false, &stop).await.unwrap();
        let failure = fill_file(&path, false, &stop).await.unwrap_err();
        assert_eq!(failure.exit, Exit::Configuration);
        assert!(
            failure
                .to_string()
                .contains("pinterest_data, geolocation_data, user_data"),
            "{failure}"
        );
        assert_eq!(fill_file(&path, true, &stop).await.unwrap(), POSTS);
    }

    #[tokio::test]
    async fn a_stop_comes_after_a_whole_chunk() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("seed.db");
        let stop = CancellationToken::new();
        stop.cancel();
        let written = fill_file(&path, false, &stop).await.unwrap();
        assert!((1..POSTS).contains(&written));
        assert_eq!(
            rows(&path, "SELECT ind FROM user_data").await.len() as u64,
            written
        );
    }

    #[tokio::test]
    async fn a_made_file_is_there_only_when_it_is_complete() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("demo").join("seed.db");
        let (progress, stop) = (Progress::new(When::Never, None), CancellationToken::new());
        stop.cancel();
        assert!(
            !make_file(&path, Samples::new(POSTS, 7), &progress, &stop)
                .await
                .unwrap()
        );
        assert!(!path.exists());
        let stop = CancellationToken::new();
        assert!(
            make_file(&path, Samples::new(POSTS, 7), &progress, &stop)
                .await
                .unwrap()
        );
        assert_eq!(
            rows(&path, "SELECT ind FROM user_data").await.len() as u64,
            POSTS
        );
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_written_is_named() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("missing").join("seed.db");
        let failure = fill_file(&path, false, &CancellationToken::new())
            .await
            .unwrap_err();
        assert_eq!(failure.exit, Exit::CannotWrite);
        assert!(failure.to_string().contains("missing/seed.db"), "{failure}");
    }
}
