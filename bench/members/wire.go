//go:build linux

package main

import "encoding/binary"

// The one message of the classic swarm: mode, IPv4 address, port.
const (
	messageSize = 7
	modeRemove  = 0
	modeAdd     = 1
)

// entry is where a member claims to listen: an address in the upper 32 bits of 48, a port below. Nobody listens there.
type entry uint64

const (
	addresses = 64 // loopback addresses that the members are spread over: 127.0.1.0 and up
	firstPort = 10_000
)

// entryOf returns the entry of the member with the given number, which no other has.
func entryOf(number int) entry {
	address := uint32(127<<24|1<<8) + uint32(number%addresses)
	return entry(address)<<16 | entry(firstPort+number/addresses)
}

func (e entry) address() (a [4]byte) {
	binary.BigEndian.PutUint32(a[:], uint32(e>>16))
	return a
}

func (e entry) message(mode byte) []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(e))
	b[1] = mode // the two bytes above the entry's six are zero
	return b[1:]
}

func parseMessage(b []byte) (mode byte, e entry) {
	return b[0], entry(binary.BigEndian.Uint32(b[1:]))<<16 | entry(binary.BigEndian.Uint16(b[5:]))
}
