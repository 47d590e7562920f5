//! The tags of a backend's messages, and the numbers by which it asks for a login.

pub(super) const AUTHENTICATION: u8 = b'R';
pub(super) const BACKEND_KEY_DATA: u8 = b'K';
pub(super) const ERROR_RESPONSE: u8 = b'E';
pub(super) const NEGOTIATE_PROTOCOL_VERSION: u8 = b'v';
pub(super) const NOTICE_RESPONSE: u8 = b'N';
pub(super) const NOTIFICATION_RESPONSE: u8 = b'A';
pub(super) const PARAMETER_STATUS: u8 = b'S';
pub(super) const READY_FOR_QUERY: u8 = b'Z';

pub(super) const AUTHENTICATION_OK: u32 = 0;
pub(super) const AUTHENTICATION_CLEARTEXT_PASSWORD: u32 = 3;
pub(super) const AUTHENTICATION_MD5_PASSWORD: u32 = 5;
pub(super) const AUTHENTICATION_SASL: u32 = 10;
pub(super) const AUTHENTICATION_SASL_CONTINUE: u32 = 11;
pub(super) const AUTHENTICATION_SASL_FINAL: u32 = 12;
