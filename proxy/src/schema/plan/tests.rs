//! What is planned for servers in different states.

use postern_core::secret::Secret;

use super::*;

const PERSON: Role = Role {
    login: true,
    superuser: false,
    create_role: false,
};

const OWN: Role = Role {
    login: false,
    superuser: false,
    create_role: true,
};

/// An empty server, looked at by a superuser.
fn nothing() -> Found {
    Found {
        server_version: 150_004,
        database: "post\"gres".to_owned(),
        admin: "postgres".to_owned(),
        admin_is_superuser: true,
        admin_may_create_roles: true,
        owner: None,
        people: None,
        owner_may_signal: false,
        provisioner: None,
        provisioner_verifier: None,
        provisioner_may_connect: false,
        provisioner_settings: Vec::new(),
        schema_owner: None,
        installed: None,
        replication_is_handed_over: false,
    }
}

/// A server on which everything is installed for a provisioner with the password `right`.
fn everything(provisioner: &RoleName) -> Found {
    Found {
        owner: Some(OWN),
        people: Some(OWN),
        owner_may_signal: true,
        provisioner: Some(PERSON),
        provisioner_verifier: Some(
            Verifier::from_password(b"right", &[1; 16], ITERATIONS).to_string(),
        ),
        provisioner_may_connect: true,
        provisioner_settings: SETTINGS
            .iter()
            .map(|(k, v, _)| format!("{k}={v}"))
            .collect(),
        schema_owner: Some(OWNER.to_owned()),
        installed: Some((VERSION, digest(provisioner))),
        ..nothing()
    }
}

fn planned(found: &Found, password: &str) -> Result<Vec<Task>, SchemaError> {
    let provisioner = RoleName::new("po\"st").map_err(|_| SchemaError::Random)?;
    let password = Secret::new(password.as_bytes().to_vec());
    plan(
        found,
        &Install {
            provisioner: &provisioner,
            password: &password,
            dry_run: false,
        },
    )
}

fn provisioner() -> Result<RoleName, SchemaError> {
    RoleName::new("po\"st").map_err(|_| SchemaError::Random)
}

#[test]
fn an_installed_schema_needs_nothing() -> Result<(), SchemaError> {
    assert_eq!(planned(&everything(&provisioner()?), "right")?.len(), 0);
    Ok(())
}

#[test]
fn an_empty_server_gets_every_file_in_order_between_the_roles_and_the_version()
-> Result<(), SchemaError> {
    let tasks = planned(&nothing(), "right")?;
    let whats: Vec<&str> = tasks.iter().map(|task| task.step.what.as_str()).collect();
    let files: Vec<&str> = whats
        .iter()
        .filter_map(|what| what.strip_prefix("install "))
        .collect();
    assert_eq!(
        files,
        FILES.iter().map(|file| file.path).collect::<Vec<_>>()
    );
    assert_eq!(whats.first(), Some(&"create postern_owner"));
    assert_eq!(whats.last(), Some(&"act as the administrator again"));
    Ok(())
}

#[test]
fn a_routine_that_was_handed_over_to_a_superuser_stays_with_it() -> Result<(), SchemaError> {
    for admin_is_superuser in [true, false] {
        let found = Found {
            replication_is_handed_over: true,
            admin_is_superuser,
            installed: Some((VERSION, "older".to_owned())),
            ..everything(&provisioner()?)
        };
        let tasks = planned(&found, "right")?;
        let what = format!("install {SET_REPLICATION}");
        let sql = tasks.iter().find(|task| task.step.what == what);
        let starts = sql.map(|task| task.sql.starts_with("RESET ROLE;\n"));
        assert_eq!(starts, admin_is_superuser.then_some(true));
    }
    Ok(())
}

#[test]
fn names_are_quoted_wherever_they_stand() -> Result<(), SchemaError> {
    for task in planned(&nothing(), "right")? {
        assert!(!task.sql.contains(":\"provisioner\""), "{}", task.sql);
        let bare = task
            .sql
            .replace("\"po\"\"st\"", "")
            .replace("\"post\"\"gres\"", "");
        assert!(
            !bare.contains("po\"st") && !bare.contains("post\"gres"),
            "{}",
            task.sql
        );
    }
    Ok(())
}

#[test]
fn the_steps_never_show_a_password_or_a_verifier() -> Result<(), SchemaError> {
    for found in [nothing(), everything(&provisioner()?)] {
        let tasks = planned(&found, "wrong")?;
        assert!(
            tasks
                .iter()
                .any(|task| task.sql.contains("PASSWORD 'SCRAM-SHA-256$4096:"))
        );
        for task in tasks {
            assert!(
                !task.step.sql.contains("SCRAM-SHA-256$4"),
                "{}",
                task.step.sql
            );
            assert!(!task.sql.contains("wrong"), "{}", task.sql);
        }
    }
    Ok(())
}

#[test]
fn a_setting_is_pinned_only_where_it_exists() -> Result<(), SchemaError> {
    for (server_version, wanted) in [(150_004, 5), (160_000, 6), (180_000, 6)] {
        let found = Found {
            server_version,
            ..nothing()
        };
        let tasks = planned(&found, "right")?;
        let pinned = tasks
            .iter()
            .filter(|task| task.sql.starts_with("ALTER ROLE"))
            .count();
        assert_eq!(pinned, wanted, "{server_version}");
    }
    Ok(())
}

#[test]
fn a_password_that_is_already_set_is_not_set_again() -> Result<(), SchemaError> {
    let found = everything(&provisioner()?);
    assert_eq!(planned(&found, "other")?.len(), 1);
    let blind = Found {
        admin_is_superuser: false,
        provisioner_verifier: None,
        ..found
    };
    assert_eq!(planned(&blind, "other")?.len(), 0);
    Ok(())
}

#[test]
fn what_would_undo_the_least_privilege_is_refused() -> Result<(), SchemaError> {
    let good = || provisioner().map(|name| everything(&name));
    let role = |superuser, create_role| {
        Some(Role {
            login: true,
            superuser,
            create_role,
        })
    };
    for found in [
        Found {
            server_version: 120_010,
            ..good()?
        },
        Found {
            server_version: 190_000,
            ..good()?
        },
        Found {
            admin_is_superuser: false,
            admin_may_create_roles: false,
            ..good()?
        },
        Found {
            installed: Some((VERSION + 1, String::new())),
            ..good()?
        },
        Found {
            owner: role(true, true),
            ..good()?
        },
        Found {
            provisioner: role(true, false),
            ..good()?
        },
        Found {
            provisioner: role(false, true),
            ..good()?
        },
        Found {
            schema_owner: Some("mallory".to_owned()),
            ..good()?
        },
    ] {
        assert!(planned(&found, "right").is_err());
    }
    Ok(())
}

#[test]
fn an_administrator_without_superuser_joins_the_owner_and_leaves_again() -> Result<(), SchemaError>
{
    let found = Found {
        admin_is_superuser: false,
        admin: "cl\"oud".to_owned(),
        ..nothing()
    };
    let tasks = planned(&found, "right")?;
    let sqls: Vec<&str> = tasks.iter().map(|task| task.sql.as_str()).collect();
    assert!(sqls.contains(&"GRANT postern_owner TO \"cl\"\"oud\""));
    assert_eq!(
        sqls.last(),
        Some(&"REVOKE postern_people FROM \"cl\"\"oud\"")
    );
    assert!(!sqls.iter().any(|sql| sql.contains("SET log_")));
    Ok(())
}
