//! What of TLS keeps a database from letting us in, which another try does not mend.

use std::io;

use crate::failure::{Exit, Failure};

/// None if it is not for TLS. `name`: of the database.
pub(super) fn failure(name: &str, error: &sqlx::Error) -> Option<Failure> {
    let number = error.as_database_error().and_then(|error| {
        error
            .try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>()
            .map(sqlx::mysql::MySqlDatabaseError::number)
    });
    let configuration = |text: String| Some(Failure::new(Exit::Configuration, text));
    match error {
        // Without TLS the password would have to be encrypted with the server's RSA key. The library leaves that out unless
        // it is built with a crate that is known to leak the key's timing (RUSTSEC-2023-0071).
        sqlx::Error::Configuration(cause) if cause.to_string().starts_with("RSA auth backend") => {
            configuration(format!(
                "the database {name} takes this user's password only over TLS (caching_sha2_password); take ssl-mode=DISABLED out of --database-url, or give the server TLS"
            ))
        }
        _ if number == Some(3159) => configuration(format!(
            "the database {name} takes connections only over TLS; take ssl-mode=DISABLED out of --database-url"
        )),
        sqlx::Error::Tls(cause) if cause.to_string() == "server does not support TLS" => {
            configuration(format!(
                "the database {name} has no TLS; give it a certificate, or take ssl-mode out of --database-url"
            ))
        }
        sqlx::Error::Io(cause) if cause.kind() == io::ErrorKind::NotFound => {
            configuration(format!(
                "a file that --database-url names for the database {name} is not there (ssl-ca, ssl-cert, ssl-key or socket): {cause}"
            ))
        }
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) => {
            let cause = super::first_cause(error);
            cause
                .contains("invalid peer certificate")
                .then(|| Failure::new(Exit::Unreachable, distrust(name, &cause)))
        }
        _ => None,
    }
}

fn distrust(name: &str, cause: &str) -> String {
    // An authority that was made anew under the name of a trusted one fails by its signature.
    let cure = if cause.contains("UnknownIssuer") || cause.contains("BadSignature") {
        "name the file of the authority that signed it as ssl-ca in --database-url"
    } else if cause.contains("not valid for name") {
        "write one of the hosts that it is valid for in --database-url, or ssl-mode=VERIFY_CA"
    } else {
        "have it made anew, unless the clock of this machine is wrong"
    };
    format!("the certificate of the database {name} is not trusted; {cure}: {cause}")
}
