//! The SQL that makes a seed database, as text that MySQL, MariaDB and SQLite all take (`SESSION` makes the first two read
//! it as the standard has it). Pure: runs nothing.

use std::fmt::{Display, Write};

use crate::sample::SamplePost;

/// A chunk is full when one of its statements has grown to this: half of the smallest `max_allowed_packet` that a server
/// has by default, and a row has less than 2 KiB.
const STATEMENT_BYTES: usize = 512 * 1024;

/// Double quotes enclose names, and in a string nothing but the quote itself is special: so doubling it is all that a
/// literal needs.
pub(super) const SESSION: &str = "SET SESSION sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES,STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'";

/// A table, and the columns it is made with.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) columns: &'static str,
}

const PIN: Table = Table {
    name: "pinterest_data",
    columns: "\"index\" BIGINT NOT NULL PRIMARY KEY, unique_id VARCHAR(36), title TEXT, description TEXT, \
              poster_name TEXT, follower_count VARCHAR(32), tag_list TEXT, is_image_or_video VARCHAR(64), \
              image_src TEXT, downloaded BIGINT, save_location VARCHAR(255), category VARCHAR(64)",
};
const GEO: Table = Table {
    name: "geolocation_data",
    columns: "ind BIGINT NOT NULL PRIMARY KEY, \"timestamp\" DATETIME, latitude FLOAT, longitude FLOAT, \
              country VARCHAR(255)",
};
const USER: Table = Table {
    name: "user_data",
    columns: "ind BIGINT NOT NULL PRIMARY KEY, first_name VARCHAR(255), last_name VARCHAR(255), age BIGINT, \
              date_joined DATETIME",
};
pub(super) const TABLES: [Table; 3] = [PIN, GEO, USER];

/// What follows the columns in MySQL and MariaDB.
pub(super) const MYSQL_TABLE_OPTIONS: &str = " ENGINE=InnoDB DEFAULT CHARSET=utf8mb4";

/// Lets posts be read in the order of their times. Made last: sorting once is cheaper than inserting at random.
pub(super) const TIME_KEY: &str =
    "CREATE INDEX geolocation_data_timestamp ON geolocation_data (\"timestamp\", ind)";

/// Rows that go into the database in one transaction.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    pub(super) posts: u64,
    pin: String,
    geo: String,
    user: String,
}

impl Chunk {
    pub(super) fn push(&mut self, post: &SamplePost) {
        let SamplePost {
            index,
            pin,
            geo,
            user,
        } = post;
        self.posts += 1;
        Row::begin(&mut self.pin, PIN.name, *index)
            .text(&pin.unique_id)
            .text(&pin.title)
            .text(&pin.description)
            .text(&pin.poster_name)
            .text(&pin.follower_count)
            .text(&pin.tag_list)
            .text(pin.is_image_or_video)
            .text(&pin.image_src)
            .number(pin.downloaded)
            .text(&pin.save_location)
            .text(pin.category)
            .end();
        Row::begin(&mut self.geo, GEO.name, *index)
            .text(&geo.timestamp.to_string())
            .number(geo.latitude)
            .number(geo.longitude)
            .text(geo.country)
            .end();
        Row::begin(&mut self.user, USER.name, *index)
            .text(user.first_name)
            .text(user.last_name)
            .number(user.age)
            .text(&user.date_joined.to_string())
            .end();
    }

    pub(super) fn is_full(&self) -> bool {
        self.pin.len() >= STATEMENT_BYTES
    }

    pub(super) fn into_statements(self) -> [String; 3] {
        [self.pin, self.geo, self.user]
    }
}

/// One row in the making at the end of an `INSERT`.
struct Row<'a>(&'a mut String);

impl<'a> Row<'a> {
    fn begin(statement: &'a mut String, table: &str, key: u64) -> Self {
        if statement.is_empty() {
            statement.push_str("INSERT INTO ");
            statement.push_str(table);
            statement.push_str(" VALUES (");
        } else {
            statement.push_str(",(");
        }
        Self(statement).write(key)
    }

    fn number(self, number: impl Display) -> Self {
        self.0.push(',');
        self.write(number)
    }

    /// `text` holds no NUL, at which SQLite would end the statement.
    fn text(self, text: &str) -> Self {
        self.0.push_str(",'");
        for (part, piece) in text.split('\'').enumerate() {
            if part > 0 {
                self.0.push_str("''");
            }
            self.0.push_str(piece);
        }
        self.0.push('\'');
        self
    }

    fn end(self) {
        self.0.push(')');
    }

    fn write(self, number: impl Display) -> Self {
        // Writing to a String cannot fail.
        let _ = write!(self.0, "{number}");
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Samples;

    #[test]
    fn a_quote_in_a_text_is_doubled_and_nothing_else_changes() {
        let mut statement = String::new();
        Row::begin(&mut statement, "t", 1)
            .text("it's \\ \"so\"\n")
            .number(-0.5)
            .end();
        Row::begin(&mut statement, "t", 2)
            .text("''")
            .number(2)
            .end();
        assert_eq!(
            statement,
            "INSERT INTO t VALUES (1,'it''s \\ \"so\"\n',-0.5),(2,'''''',2)"
        );
    }

    #[test]
    fn no_statement_is_larger_than_a_server_takes() {
        let mut chunk = Chunk::default();
        let mut samples = Samples::new(5_000, 1);
        while !chunk.is_full() {
            chunk.push(&samples.next().unwrap());
        }
        assert!(chunk.posts > 500);
        assert!(
            chunk
                .into_statements()
                .iter()
                .all(|statement| statement.len() < STATEMENT_BYTES + 2048)
        );
    }

    #[test]
    fn the_rows_of_a_seed_never_change() {
        let mut chunk = Chunk::default();
        Samples::new(11_154, 100).for_each(|post| chunk.push(&post));
        let [pin, geo, user] = chunk.into_statements();
        let first_row = "(0,'2021-06-08 15:59:20',82.6344,9.725,'Bermuda'),";
        assert_eq!(
            geo.split_once(" VALUES ")
                .map(|(_, rows)| &rows[..first_row.len()]),
            Some(first_row)
        );
        // FNV-1a. If an update of `fake` changes it, say in the change log that seed databases differ from now on.
        let digest = (pin + &geo + &user)
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |digest, byte| {
                (digest ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
            });
        assert_eq!(format!("{digest:016x}"), "c86ab3edd4657d99");
    }
}
