//! Keys on NIST's curves, and what two of them share.

use p256::elliptic_curve::Generate as _;
use pkcs8::DecodePublicKey as _;

/// Defines the keys on several curves, each by its crate and its name in a JSON Web Key (RFC 7518 6.2.1.1).
macro_rules! curves {
    ($($name:ident $curve:ident $text:literal;)*) => {
        /// A public key.
        #[derive(Clone)]
        pub(crate) enum Public { $($name($curve::PublicKey)),* }

        /// A private key.
        #[derive(Clone)]
        pub(crate) enum Private { $($name($curve::SecretKey)),* }

        impl Public {
            /// The key in a SubjectPublicKeyInfo.
            pub(crate) fn from_der(der: &[u8]) -> Option<Self> {
                None$(.or_else(|| $curve::PublicKey::from_public_key_der(der).ok().map(Self::$name)))*
            }

            /// The key at a point, uncompressed as in SEC 1.
            pub(crate) fn from_point(curve: &str, point: &[u8]) -> Option<Self> {
                match curve {
                    $($text => $curve::PublicKey::from_sec1_bytes(point).ok().map(Self::$name),)*
                    _ => None,
                }
            }

            /// The curve's name and the point, uncompressed.
            pub(crate) fn point(&self) -> (&'static str, Vec<u8>) {
                match self { $(Self::$name(key) => ($text, key.to_sec1_bytes().into_vec())),* }
            }

            /// A new key's public part, and what it shares with this one; none without randomness.
            pub(crate) fn agree_anew(&self) -> Option<(Self, Vec<u8>)> {
                match self { $(Self::$name(key) => {
                    let new = $curve::SecretKey::try_generate().ok()?;
                    let shared = new.diffie_hellman(key).raw_secret_bytes().to_vec();
                    Some((Self::$name(new.public_key()), shared))
                }),* }
            }
        }

        impl Private {
            /// The key in PKCS #8 or SEC 1 form.
            pub(crate) fn from_der(der: &[u8]) -> Option<Self> {
                None$(.or_else(|| $curve::SecretKey::from_der(der).ok().map(Self::$name)))*
            }

            /// The key that is this number.
            pub(crate) fn from_number(curve: &str, number: &[u8]) -> Option<Self> {
                match curve {
                    $($text => $curve::SecretKey::from_slice(number).ok().map(Self::$name),)*
                    _ => None,
                }
            }

            /// What it shares with a public key; none with one on another curve.
            pub(crate) fn agree(&self, public: &Public) -> Option<Vec<u8>> {
                match (self, public) {
                    $((Self::$name(own), Public::$name(other)) => {
                        Some(own.diffie_hellman(other).raw_secret_bytes().to_vec())
                    })*
                    _ => None,
                }
            }
        }
    };
}

curves! {
    P256 p256 "P-256";
    P384 p384 "P-384";
    P521 p521 "P-521";
}
