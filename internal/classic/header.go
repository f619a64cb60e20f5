package classic

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// Message types: the first byte of a header. docs/CLASSIC.md section 4.
const (
	typeFileRequest   = 0
	typeFileResponse  = 1
	typeChunkRequest  = 2
	typeChunkResponse = 3
)

// Offsets of the header's fields. All numbers are unsigned, 4 bytes, big-endian; what a message does not use is zero.
const (
	offName   = 1   // 255 bytes: the name, then NUL to the end
	offChunks = 256 // number of chunks of the file
	offFirst  = 260 // first chunk asked for
	offLast   = 264 // last chunk asked for, inclusive
	offIndex  = 268 // index of the chunk that follows
	offSize   = 272 // bytes in the chunk that follows
)

// Header is one of the four messages between peers, each of [HeaderSize] bytes.
type Header interface {
	// Append writes the message to the end of b.
	Append(b []byte) []byte
}

// FileRequest asks whether the other shares the file Name, and in how many chunks.
type FileRequest struct{ Name string }

// FileResponse answers a [FileRequest]: 0 chunks mean "not here".
type FileResponse struct {
	Name   string // empty in the original's answers
	Chunks uint32
}

// ChunkRequest asks for the chunks First to Last, inclusive, of the file Name.
type ChunkRequest struct {
	Name        string
	First, Last uint32 // First <= Last
}

// ChunkResponse is followed at once by Size bytes, 1 to [ChunkSize]: the chunk Index of the file that was asked for.
type ChunkResponse struct {
	Name  string // empty in the original's answers
	Index uint32
	Size  uint32
}

func (m FileRequest) Append(b []byte) []byte {
	b, _ = appendHeader(b, typeFileRequest, m.Name)
	return b
}

func (m FileResponse) Append(b []byte) []byte {
	b, h := appendHeader(b, typeFileResponse, m.Name)
	binary.BigEndian.PutUint32(h[offChunks:], m.Chunks)
	return b
}

func (m ChunkRequest) Append(b []byte) []byte {
	b, h := appendHeader(b, typeChunkRequest, m.Name)
	binary.BigEndian.PutUint32(h[offFirst:], m.First)
	binary.BigEndian.PutUint32(h[offLast:], m.Last)
	return b
}

func (m ChunkResponse) Append(b []byte) []byte {
	b, h := appendHeader(b, typeChunkResponse, m.Name)
	binary.BigEndian.PutUint32(h[offIndex:], m.Index)
	binary.BigEndian.PutUint32(h[offSize:], m.Size)
	return b
}

// appendHeader adds a header of zeros with a type and a name, and returns it beside the whole.
func appendHeader(b []byte, typ byte, name string) (all, header []byte) {
	if len(name) > MaxName {
		panic("classic: name longer than its field")
	}
	start := len(b)
	b = append(b, make([]byte, HeaderSize)...)
	b[start] = typ
	copy(b[start+offName:], name)
	return b, b[start:]
}

// ParseHeader reads one header of exactly [HeaderSize] bytes. Numbers that a message does not use are ignored.
func ParseHeader(b []byte) (Header, error) {
	if len(b) != HeaderSize {
		return nil, fmt.Errorf("%w: %d bytes, want %d", ErrSize, len(b), HeaderSize)
	}
	if b[0] > typeChunkResponse {
		return nil, fmt.Errorf("%w: %d", ErrType, b[0])
	}
	name, err := parseName(b[offName:offChunks])
	if err != nil {
		return nil, err
	}
	isRequest := b[0] == typeFileRequest || b[0] == typeChunkRequest
	if isRequest || name != "" {
		if err := CheckName(name); err != nil {
			return nil, err
		}
	}
	number := func(off int) uint32 { return binary.BigEndian.Uint32(b[off:]) }
	switch b[0] {
	case typeFileRequest:
		return FileRequest{Name: name}, nil
	case typeFileResponse:
		return FileResponse{Name: name, Chunks: number(offChunks)}, nil
	case typeChunkRequest:
		m := ChunkRequest{Name: name, First: number(offFirst), Last: number(offLast)}
		if m.First > m.Last {
			return nil, fmt.Errorf("%w: chunks %d to %d", ErrRange, m.First, m.Last)
		}
		return m, nil
	default:
		m := ChunkResponse{Name: name, Index: number(offIndex), Size: number(offSize)}
		if m.Size == 0 || m.Size > ChunkSize {
			return nil, fmt.Errorf("%w: a chunk of %d bytes", ErrRange, m.Size)
		}
		return m, nil
	}
}

// parseName takes the name out of its field: what stands before the first NUL, if nothing stands behind it.
func parseName(field []byte) (string, error) {
	name, rest, found := bytes.Cut(field, []byte{0})
	if !found {
		return "", fmt.Errorf("%w: no NUL in its field", ErrName)
	}
	if len(bytes.Trim(rest, "\x00")) != 0 {
		return "", fmt.Errorf("%w: bytes behind its NUL", ErrName)
	}
	return string(name), nil
}
