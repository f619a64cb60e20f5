// Package identity is who we are and who may join: keys, certificates, links, tokens and removals, and the folder in which a
// machine keeps them.
//
//   - [States] is the folder of all swarms of a machine; [Swarm] one of them.
//   - [Link] says where a swarm is, how to recognise it, and how to be let in.
//
// It opens no sockets; it makes the TLS configurations with which others do.
//
// # Keys and certificates
//
// All keys are ECDSA P-256. A peer's id ([PeerID]) is the SHA-256 of its public key, as a DER SubjectPublicKeyInfo. As text it
// is 52 characters of base32 (RFC 4648, lower case, no padding). A swarm's id ([SwarmID]) is the first 128 bits of the same
// hash of its authority's key: 26 characters.
//
// A chain has three certificates. The authority signs itself, has the name "shoal authority SWARM", is a CA, and is constrained
// to DNS names below "shoal". It signs issuers, CAs with path length 0 and the name "shoal issuer PEERID". An issuer signs leaves: the
// only DNS name of a leaf is PEERID.SWARM.shoal, its organizational unit is its role (server, member or reader). Dates are those of
// RFC 5280 for "always" (1970 to 9999), and nobody looks at them: membership ends by a removal.
//
// # Removals
//
// A removal is "shoal removal v1" and a zero byte; the swarm's id (16 bytes); the removed peer's id (32);
// the length of the issuer's certificate (2, big-endian) and the certificate; and the issuer's ASN.1 ECDSA signature of the
// SHA-256 of all bytes before the length. A removal of an issuer's key is signed by the authority, whose certificate then
// stands in the place of the issuer's.
//
// # Offers
//
// The signature in an offer is an ASN.1 ECDSA signature, by the leaf's key, of the SHA-256 of "shoal offer v1" and a zero byte;
// the swarm's id (16); the content's id (32); its size (8, big-endian); the name; and of what is no file a zero byte and its kind (8).
//
// # Joining
//
// POST /join with a JSON object: token (16 characters of base32), csr (a PKCS#10 request, DER, base64), name (of the machine).
// The answer is a JSON object with chain: leaf, issuer and authority, DER, base64; and removals: base64 each. An error is an
// object with code and text.
package identity
