//! Servers for tests: real PostgreSQL, OpenLDAP and Samba, each in a temporary folder.
