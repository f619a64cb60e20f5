// Package wire is the bytes of Shoal's own protocol: frames, and the messages in them.
//
// A frame is a length, a type and a payload. The payload of a [Data] frame is a request's number and raw bytes; that of all
// others is one CBOR map with integer keys: a type of this package each, which [Append] writes and [Parse] reads. What Parse
// returns is well formed and in range; nobody checks it again. What the messages mean, and in which order they may come, is
// not known here: see docs/PROTOCOL.md.
package wire
