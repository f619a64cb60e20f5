package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"

	"github.com/fxamacker/cbor/v2"
)

const (
	// HeaderSize is the length and the type of a frame.
	HeaderSize = 5
	// MaxControl bounds what follows the length of a frame that is no data frame: its type and payload.
	MaxControl = 64 << 10
	// MaxDataBytes is the most raw bytes in a data frame.
	MaxDataBytes = 128 << 10
	// maxData bounds what follows the length of a data frame.
	maxData = 1 + binary.MaxVarintLen64 + MaxDataBytes
)

// Errors of a frame. Each ends its connection.
var (
	ErrLong    = errors.New("frame is too long")
	ErrShort   = errors.New("frame is too short")
	ErrType    = errors.New("unknown frame type")
	ErrMessage = errors.New("malformed message")
)

// Message is one of the messages of this package, by pointer.
type Message interface {
	Type() Type
	check() error
}

var encoder, decoder = func() (cbor.EncMode, cbor.DecMode) {
	e, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		panic("wire: " + err.Error())
	}
	d, err := cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden,
		MaxNestedLevels: 8, MaxArrayElements: 1 << 16, MaxMapPairs: 64, UTF8: cbor.UTF8RejectInvalid,
	}.DecMode()
	if err != nil {
		panic("wire: " + err.Error())
	}
	return e, d
}()

// Append appends a message's whole frame.
func Append(b []byte, m Message) []byte {
	payload, err := encoder.Marshal(m)
	if err != nil {
		panic("wire: " + err.Error())
	}
	if 1+len(payload) > MaxControl {
		panic(fmt.Sprintf("wire: a %T of %d bytes", m, len(payload)))
	}
	b = binary.BigEndian.AppendUint32(b, uint32(1+len(payload)))
	b = append(b, byte(m.Type()))
	return append(b, payload...)
}

// Header is the begin of a frame.
type Header struct {
	Type Type
	Len  int // bytes of the payload
}

// ParseHeader reads the first [HeaderSize] bytes of a frame, and holds its length against the limit of its type.
func ParseHeader(b []byte) (Header, error) {
	n := binary.BigEndian.Uint32(b)
	t := Type(b[4])
	limit := uint32(MaxControl)
	if t == TypeData {
		limit = maxData
	}
	switch {
	case n < 1:
		return Header{}, ErrShort
	case n > limit:
		return Header{}, fmt.Errorf("%w: type %d, %d bytes", ErrLong, t, n)
	}
	return Header{t, int(n) - 1}, nil
}

// AppendData appends the head of a data frame; n raw bytes are to follow it.
func AppendData(b []byte, request uint64, n int) []byte {
	var v [binary.MaxVarintLen64]byte
	k := binary.PutUvarint(v[:], request)
	b = binary.BigEndian.AppendUint32(b, uint32(1+k+n))
	b = append(b, byte(TypeData))
	return append(b, v[:k]...)
}

// ParseData reads the payload of a data frame.
func ParseData(payload []byte) (request uint64, raw []byte, err error) {
	request, k := binary.Uvarint(payload)
	switch {
	case k <= 0:
		return 0, nil, fmt.Errorf("%w: request number of a data frame", ErrMessage)
	case len(payload)-k > MaxDataBytes:
		return 0, nil, ErrLong
	}
	return request, payload[k:], nil
}

// Parse reads a message. For a type that is to be ignored it returns nil and no error.
func Parse(t Type, payload []byte) (Message, error) {
	kind := kinds[t]
	if kind == nil {
		if t%2 == 1 {
			return nil, nil
		}
		return nil, fmt.Errorf("%w: %d", ErrType, t)
	}
	m := reflect.New(kind).Interface().(Message)
	if err := decoder.Unmarshal(payload, m); err != nil {
		return nil, fmt.Errorf("%w: type %d: %v", ErrMessage, t, err)
	}
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("%w: type %d: %v", ErrMessage, t, err)
	}
	return m, nil
}
