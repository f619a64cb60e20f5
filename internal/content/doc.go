// Package content says what a content is: an immutable stream of bytes that is known by its BLAKE3 hash, in pieces each of
// which can be verified alone.
//
//   - [ID] is the hash; [Prefix] the part of it that people type.
//   - [Geometry] says how a content is divided into pieces.
//   - [PieceHash] makes a piece's chaining value of its bytes, as they come, and those of its parts.
//   - [Manifest] is the list of all pieces' values. It proves itself, and the content's size, against the id.
//
// The package is pure: it opens nothing and starts nothing. Hashing a whole file on all cores is package store's. The
// formats are in docs/PROTOCOL.md section 2.
package content
