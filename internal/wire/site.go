package wire

import (
	"encoding/binary"
	"hash/fnv"

	"shoal/internal/content"
)

// SiteRank returns how a peer ranks among those of its site that fetch a content: the higher come first. All compute the same.
func SiteRank(id content.ID, peer PeerID, instance uint64) uint64 {
	h := fnv.New64a()
	_, _ = h.Write(id[:])
	_, _ = h.Write(peer[:])
	_, _ = h.Write(binary.BigEndian.AppendUint64(nil, instance))
	x := h.Sum64() // of which the last bytes have changed little
	x = (x ^ x>>33) * 0xff51afd7ed558ccd
	x = (x ^ x>>33) * 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}
