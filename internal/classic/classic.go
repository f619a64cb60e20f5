// Package classic is the bytes of the classic protocol, as docs/CLASSIC.md has them: the seven-byte message between a
// peer and the swarm server ([Member]), and the four messages between two peers, which share a header of 276 bytes
// ([FileRequest], [FileResponse], [ChunkRequest], [ChunkResponse]).
//
// Every message is a type with Append, which writes it, and has a parser, which returns only what is well formed and in
// range, so that nobody need check again. The package opens nothing, logs nothing and keeps no state. It does not
// know conversations: who may say what and when is the business of package swarm and package peer.
//
// The format is frozen: it is that of a system which exists and will not change.
package classic

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
)

// The figures of the protocol, docs/CLASSIC.md sections 2 and 4.
const (
	DefaultPort = 50001      // where a swarm server listens
	ChunkSize   = 32_000_000 // bytes in every chunk of a file but the last, which has 1 to ChunkSize
	MemberSize  = 7          // bytes in a message between peer and server
	HeaderSize  = 276        // bytes in a header between peers
	MaxName     = 254        // bytes in a file's name: its field has 255 and ends with NUL
	MaxChunks   = 1<<32 - 1  // chunks in a file
)

// Errors that a parser returns, wrapped with the value that was wrong. A caller tells them apart to count them.
var (
	ErrSize    = errors.New("wrong length of message")
	ErrMode    = errors.New("unknown mode")
	ErrAddress = errors.New("not an address of a peer")
	ErrType    = errors.New("unknown message type")
	ErrName    = errors.New("not a file name")
	ErrRange   = errors.New("number out of range")
)

// CheckName says whether name can be a file's name in this protocol: 1 to [MaxName] bytes, no directory part, no
// control characters, not "." or "..". A name need not be UTF-8: the protocol has no encoding.
func CheckName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%w: empty", ErrName)
	case len(name) > MaxName:
		return fmt.Errorf("%w: %d bytes, the most is %d", ErrName, len(name), MaxName)
	case name == "." || name == "..":
		return fmt.Errorf("%w: %q", ErrName, name)
	case strings.ContainsAny(name, `/\`):
		return fmt.Errorf("%w: %q has a directory part", ErrName, name)
	case strings.ContainsFunc(name, unicode.IsControl):
		return fmt.Errorf("%w: %q has control characters", ErrName, name)
	}
	return nil
}

// Chunks returns how many chunks a file of size bytes has, and how long the last one is: 0 and 0 for an empty file,
// which this protocol cannot share, and an error for a size that is negative or past [MaxChunks].
func Chunks(size int64) (chunks, last uint32, err error) {
	n := (size + ChunkSize - 1) / ChunkSize
	if size < 0 || size > MaxChunks*ChunkSize {
		return 0, 0, fmt.Errorf("%w: a file of %d bytes", ErrRange, size)
	}
	if n == 0 {
		return 0, 0, nil
	}
	return uint32(n), uint32(size - (n-1)*ChunkSize), nil
}

// FileSize returns the size in bytes of a file with so many chunks, of which the last has last bytes.
func FileSize(chunks, last uint32) int64 {
	if chunks == 0 {
		return 0
	}
	return int64(chunks-1)*ChunkSize + int64(last)
}
