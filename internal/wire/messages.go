package wire

import (
	"strconv"

	"shoal/internal/content"
)

// Type tells messages apart. A receiver ignores an odd type that it does not know, and ends the connection for an even one.
type Type byte

// The types of messages: of every connection, between peers, and between a peer and its swarm server. Numbers are only
// ever appended.
const (
	TypeHello Type = 2
	TypeUse   Type = 4
	TypePing  Type = 6
	TypePong  Type = 8
	TypeBye   Type = 10

	TypeOpen     Type = 16
	TypeInfo     Type = 18
	TypeRefuse   Type = 20
	TypeManifest Type = 22
	TypePart     Type = 24
	TypeHave     Type = 26
	TypeReset    Type = 28
	TypeWant     Type = 30
	TypeCredit   Type = 32
	TypeGet      Type = 34
	TypePass     Type = 36
	TypeCancel   Type = 38
	TypeData     Type = 40
	TypeEnd      Type = 42
	TypeClose    Type = 44
	TypeClaim    Type = 45 // odd: who knows no sites ignores it
	TypeSeek     Type = 47
	TypeHere     Type = 49
	TypeProof    Type = 51
	TypeSpare    Type = 53

	TypeEnter   Type = 64
	TypeOffer   Type = 66
	TypeHold    Type = 68
	TypeRetract Type = 70
	TypeFind    Type = 72
	TypeList    Type = 74
	TypeFound   Type = 76
	TypeFollow  Type = 78
	TypePeers   Type = 80
	TypeRemoved Type = 82
	TypeLeave   Type = 84
	TypeWho     Type = 86
	TypeThere   Type = 88
	TypeFailed  Type = 90
	TypeReach   Type = 91
	TypeReached Type = 93
)

// PeerID is the hash of a peer's public key: see package identity.
type PeerID [32]byte

// UnmarshalCBOR reads a peer's id from a CBOR byte string of 32 bytes, and of no other length.
func (p *PeerID) UnmarshalCBOR(b []byte) error { return (*content.ID)(p).UnmarshalCBOR(b) }

// Kind says what a content is, as who shares it says. A receiver that does not know a kind does not fetch it.
type Kind uint64

// The kinds.
const (
	KindFile      Kind = 0
	KindDirectory Kind = 1 // its stream begins with a listing: see package bundle
)

func (k Kind) String() string {
	switch k {
	case KindFile:
		return "file"
	case KindDirectory:
		return "directory"
	}
	return "kind " + strconv.FormatUint(uint64(k), 10)
}

// Reason says why something ended or was refused.
type Reason uint64

// The reasons.
const (
	ReasonOK        Reason = 0
	ReasonClosing   Reason = 1  // the sender goes
	ReasonDuplicate Reason = 2  // there is an older connection between the two
	ReasonProtocol  Reason = 3  // a rule was broken
	ReasonLimit     Reason = 4  // a bound was reached
	ReasonUnknown   Reason = 5  // no such content here
	ReasonReset     Reason = 6  // of an old epoch
	ReasonExpired   Reason = 7  // the credit has expired
	ReasonMissing   Reason = 8  // that piece is not there
	ReasonCancelled Reason = 9  // as the requester asked
	ReasonRead      Reason = 10 // the piece cannot be read, or has changed
	ReasonRemoved   Reason = 11 // the other is no member any more
	ReasonRole      Reason = 12 // the other's role does not allow it
	ReasonVersion   Reason = 13 // no common version
	ReasonSpare     Reason = 14 // both have more neighbours than they need
)

// FeatureSeek is the bit of [Hello] of a peer that answers [Seek].
const FeatureSeek = 1

// FeatureReach is the bit of [Hello] of a server that answers [Reach].
const FeatureReach = 2

// Way is how the attempt to connect to a peer went.
type Way uint64

// The ways. Of these a firewall leads to WayRefused or WaySilent.
const (
	WayOpen      Way = 0 // it was reached
	WayRefused   Way = 1 // the connection was refused
	WaySilent    Way = 2 // no answer came, or no way leads there
	WayOther     Way = 3 // who answers there is not that peer
	WayElsewhere Way = 4 // nothing was tried: the address from which it comes is none that it named in enter
	WayLimit     Way = 5 // nothing was tried: it has asked too often, or the server has too much to try
)

// Messages of every connection.
type (
	// Hello is the first frame in each direction.
	Hello struct {
		Version  uint64 `cbor:"1,keyasint"`
		Features uint64 `cbor:"2,keyasint,omitempty"` // bits; unknown ones are ignored
		Agent    string `cbor:"3,keyasint,omitempty"` // program and version, for people
		Name     string `cbor:"4,keyasint,omitempty"` // the machine's, for people
		Instance uint64 `cbor:"5,keyasint"`           // random, of this process
		Port     uint16 `cbor:"6,keyasint,omitempty"` // where the sender listens; 0: nowhere
		Age      uint64 `cbor:"7,keyasint,omitempty"` // of a server: milliseconds since it began
		Requests uint64 `cbor:"8,keyasint,omitempty"` // how many requests at once the sender takes; 0: 64
		Site     string `cbor:"9,keyasint,omitempty"` // where the sender is; empty: nowhere in particular
	}
	// Use says that this connection is the one to be used.
	Use struct{}
	// Ping wants a [Pong] of the same number.
	Ping struct {
		Number uint64 `cbor:"1,keyasint"`
	}
	// Pong answers a [Ping].
	Pong struct {
		Number uint64 `cbor:"1,keyasint"`
	}
	// Bye is the last frame in its direction.
	Bye struct {
		Reason Reason `cbor:"1,keyasint"`
		Text   string `cbor:"2,keyasint,omitempty"`
	}
)

// Messages between peers. Channel is the number of a content on the connection.
type (
	// Open begins the exchange of a content on a new channel.
	Open struct {
		Channel uint64     `cbor:"1,keyasint"`
		ID      content.ID `cbor:"2,keyasint"`
	}
	// Info answers [Open]. A sender without the manifest does not know the size: it is then 0 and Known false.
	Info struct {
		Channel uint64 `cbor:"1,keyasint"`
		Size    int64  `cbor:"2,keyasint"`
		Known   bool   `cbor:"3,keyasint"` // the sender has the manifest
		Epoch   uint64 `cbor:"4,keyasint"`
		All     bool   `cbor:"5,keyasint,omitempty"` // it has every piece: no haves follow
	}
	// Refuse answers [Open].
	Refuse struct {
		Channel uint64 `cbor:"1,keyasint"`
		Reason  Reason `cbor:"2,keyasint"`
	}
	// Manifest asks for a part of the manifest, from an offset on.
	Manifest struct {
		Channel uint64 `cbor:"1,keyasint"`
		Offset  uint64 `cbor:"2,keyasint"`
	}
	// Part is a part of the manifest, whose length in all is Total.
	Part struct {
		Channel uint64 `cbor:"1,keyasint"`
		Offset  uint64 `cbor:"2,keyasint"`
		Total   uint64 `cbor:"3,keyasint"`
		Bytes   []byte `cbor:"4,keyasint"`
	}
	// Have tells of pieces: of Bitmap's, most significant bit first, the first is piece First; or Runs, pairs of how many
	// pieces to skip and how many there are, from First on. Of a snapshot all frames but the last have More. Pieces that have Begun are on their
	// way to the sender, which passes on what has come, and what comes; those that are Lost were said to have begun, and do not come.
	Have struct {
		Channel uint64   `cbor:"1,keyasint"`
		Epoch   uint64   `cbor:"2,keyasint"`
		First   uint32   `cbor:"3,keyasint"`
		Bitmap  []byte   `cbor:"4,keyasint,omitempty"`
		Runs    []uint32 `cbor:"5,keyasint,omitempty"`
		More    bool     `cbor:"6,keyasint,omitempty"`
		Begun   bool     `cbor:"7,keyasint,omitempty"`
		Lost    bool     `cbor:"8,keyasint,omitempty"`
	}
	// Reset begins a new epoch: the sender has nothing until it says so again.
	Reset struct {
		Channel uint64 `cbor:"1,keyasint"`
		Epoch   uint64 `cbor:"2,keyasint"`
	}
	// Want says whether the sender could use pieces that the other has; with Later, that enough is coming from others for now. Neighbours is how many it knows who may have some; 0: it does
	// not say.
	Want struct {
		Channel    uint64 `cbor:"1,keyasint"`
		On         bool   `cbor:"2,keyasint"`
		Later      bool   `cbor:"3,keyasint,omitempty"`
		Neighbours uint64 `cbor:"4,keyasint,omitempty"`
	}
	// Credit allows one [Get]. It may name a piece. One that insists is to be used even by who said later: the sender's uplink idles.
	Credit struct {
		Channel uint64  `cbor:"1,keyasint"`
		Epoch   uint64  `cbor:"2,keyasint"`
		Number  uint64  `cbor:"3,keyasint"`
		Piece   *uint32 `cbor:"4,keyasint,omitempty"`
		Insist  bool    `cbor:"5,keyasint,omitempty"`
	}
	// Get answers a [Credit]: send this piece; with Proof, and before that a [Proof] of its parts.
	Get struct {
		Channel uint64 `cbor:"1,keyasint"`
		Epoch   uint64 `cbor:"2,keyasint"`
		Credit  uint64 `cbor:"3,keyasint"`
		Request uint64 `cbor:"4,keyasint"`
		Piece   uint32 `cbor:"5,keyasint"`
		Proof   bool   `cbor:"6,keyasint,omitempty"`
	}
	// Proof comes before the bytes of a request: the chaining values of the piece's parts, 32 bytes each, so that each part can be verified, and
	// passed on, when it has come.
	Proof struct {
		Request uint64 `cbor:"1,keyasint"`
		Parts   []byte `cbor:"2,keyasint"`
	}
	// Pass answers a [Credit]: nothing, which takes the want back; with Later, nothing now, which makes it one for later.
	Pass struct {
		Channel uint64 `cbor:"1,keyasint"`
		Credit  uint64 `cbor:"2,keyasint"`
		Later   bool   `cbor:"3,keyasint,omitempty"`
	}
	// Cancel ends a request; [End] still follows.
	Cancel struct {
		Request uint64 `cbor:"1,keyasint"`
	}
	// End ends a request.
	End struct {
		Request uint64 `cbor:"1,keyasint"`
		Reason  Reason `cbor:"2,keyasint"`
	}
	// Claim says which pieces the sender fetches from outside of the site that it shares with the receiver: all of them, each time.
	Claim struct {
		Channel uint64   `cbor:"1,keyasint"`
		Pieces  []uint32 `cbor:"2,keyasint,omitempty"`
	}
	// Spare says that the sender has more neighbours than it needs for a content. If the receiver has, too, it may close the channel.
	Spare struct {
		Channel uint64 `cbor:"1,keyasint"`
	}
	// Close ends a channel.
	Close struct {
		Channel uint64 `cbor:"1,keyasint"`
		Reason  Reason `cbor:"2,keyasint"`
	}
	// Seek asks a neighbour what it has under a name, or of ids with a prefix of Bits bits, or with neither, all that it has.
	Seek struct {
		Query  uint64     `cbor:"1,keyasint"`
		Name   string     `cbor:"2,keyasint,omitempty"`
		Prefix content.ID `cbor:"3,keyasint"` // its bits behind the prefix are zero
		Bits   uint16     `cbor:"4,keyasint,omitempty"`
		After  []byte     `cbor:"5,keyasint,omitempty"` // the last page's More
	}
	// Here is a page of the answer to [Seek]. Each entry has its record.
	Here struct {
		Query   uint64  `cbor:"1,keyasint"`
		Entries []Entry `cbor:"2,keyasint,omitempty"`
		More    []byte  `cbor:"3,keyasint,omitempty"`
	}
)

// Messages between a peer and its swarm server.
type (
	// Enter is a peer's first message to its server.
	Enter struct {
		Addrs    []string `cbor:"1,keyasint"`           // host:port where it can be dialled
		Removals [][]byte `cbor:"2,keyasint,omitempty"` // signed statements that it knows
	}
	// Record is a name that a member gives a content, signed.
	Record struct {
		Name  string     `cbor:"1,keyasint"`
		ID    content.ID `cbor:"2,keyasint"`
		Size  int64      `cbor:"3,keyasint"`
		Chain [][]byte   `cbor:"4,keyasint"` // certificates of the one who signed: leaf, issuer
		Sig   []byte     `cbor:"5,keyasint"`
		Kind  Kind       `cbor:"6,keyasint,omitempty"`
	}
	// Offer repeats or makes a record. The sender holds the content.
	Offer struct {
		Record Record `cbor:"1,keyasint"`
	}
	// Hold says that the sender has some of a content, and exchanges it.
	Hold struct {
		ID   content.ID `cbor:"1,keyasint"`
		Size int64      `cbor:"2,keyasint"`
		All  bool       `cbor:"3,keyasint,omitempty"`
	}
	// Retract ends a [Hold] and all offers of that content.
	Retract struct {
		ID content.ID `cbor:"1,keyasint"`
	}
	// Find asks for contents by name, or by the beginning of their id. After continues at the page that More named.
	Find struct {
		Query  uint64     `cbor:"1,keyasint"`
		Name   string     `cbor:"2,keyasint,omitempty"`
		Prefix content.ID `cbor:"3,keyasint"`
		Bits   uint16     `cbor:"4,keyasint,omitempty"` // of Prefix; 0: by name
		After  []byte     `cbor:"5,keyasint,omitempty"`
	}
	// List asks for all contents.
	List struct {
		Query uint64 `cbor:"1,keyasint"`
		After []byte `cbor:"2,keyasint,omitempty"`
	}
	// Entry is one name of one content.
	Entry struct {
		Name    string     `cbor:"1,keyasint"`
		ID      content.ID `cbor:"2,keyasint"`
		Size    int64      `cbor:"3,keyasint"`
		Holders uint64     `cbor:"4,keyasint"`           // peers that exchange it
		Seeds   uint64     `cbor:"5,keyasint"`           // of those: that have all of it
		Age     uint64     `cbor:"6,keyasint"`           // seconds since it was first offered here
		By      PeerID     `cbor:"7,keyasint"`           // who offers it under this name
		ByName  string     `cbor:"8,keyasint,omitempty"` // that peer's name, for people
		Record  *Record    `cbor:"9,keyasint,omitempty"` // in answers to Find
		Kind    Kind       `cbor:"10,keyasint,omitempty"`
	}
	// Found is a page of the answer to [Find] or [List]. A More that is not empty says that another page follows.
	Found struct {
		Query   uint64  `cbor:"1,keyasint"`
		Entries []Entry `cbor:"2,keyasint,omitempty"`
		More    []byte  `cbor:"3,keyasint,omitempty"`
	}
	// Follow asks to be told who holds a content, or no more. Again, while it is on, it asks for another draw.
	Follow struct {
		ID content.ID `cbor:"1,keyasint"`
		On bool       `cbor:"2,keyasint"`
	}
	// PeerAddr is a peer that can be dialled.
	PeerAddr struct {
		ID       PeerID   `cbor:"1,keyasint"`
		Instance uint64   `cbor:"2,keyasint"`
		Addrs    []string `cbor:"3,keyasint,omitempty"`
	}
	// Peers tells who holds a content: a snapshot first, then changes.
	Peers struct {
		ID       content.ID `cbor:"1,keyasint"`
		Snapshot bool       `cbor:"2,keyasint,omitempty"`
		Added    []PeerAddr `cbor:"3,keyasint,omitempty"`
		Gone     []PeerAddr `cbor:"4,keyasint,omitempty"` // without addresses
		Total    uint64     `cbor:"5,keyasint"`           // holders in the swarm, the receiver not counted
	}
	// Removed carries signed statements of who is no member any more.
	Removed struct {
		Statements [][]byte `cbor:"1,keyasint"`
	}
	// Leave says that the peer goes.
	Leave struct{}
	// Who asks who is in the swarm: those connected, or all who ever joined.
	Who struct {
		Query uint64 `cbor:"1,keyasint"`
		All   bool   `cbor:"2,keyasint,omitempty"`
		After []byte `cbor:"3,keyasint,omitempty"`
	}
	// Member is one who joined, or a classic peer, of which only the address is known.
	Member struct {
		ID      PeerID   `cbor:"1,keyasint"`
		Name    string   `cbor:"2,keyasint,omitempty"`
		Role    string   `cbor:"3,keyasint,omitempty"` // server, member, reader; empty: a classic peer
		Addrs   []string `cbor:"4,keyasint,omitempty"`
		Online  bool     `cbor:"5,keyasint,omitempty"`
		Joined  int64    `cbor:"6,keyasint,omitempty"` // Unix seconds, by the server's clock
		Removed bool     `cbor:"7,keyasint,omitempty"`
		Agent   string   `cbor:"8,keyasint,omitempty"`
		Shares  uint64   `cbor:"9,keyasint,omitempty"` // contents that it holds
	}
	// There is a page of the answer to [Who].
	There struct {
		Query   uint64   `cbor:"1,keyasint"`
		Members []Member `cbor:"2,keyasint,omitempty"`
		More    []byte   `cbor:"3,keyasint,omitempty"`
	}
	// Failed answers what the server would not do: a query by its number, or 0 for another message.
	Failed struct {
		Query  uint64 `cbor:"1,keyasint"`
		Reason Reason `cbor:"2,keyasint"`
		Text   string `cbor:"3,keyasint,omitempty"`
	}
	// Reach asks the server to connect to the sender where it says that it listens.
	Reach struct {
		Query uint64 `cbor:"1,keyasint"`
	}
	// Reached answers [Reach].
	Reached struct {
		Query uint64 `cbor:"1,keyasint"`
		Way   Way    `cbor:"2,keyasint"`
		Addr  string `cbor:"3,keyasint,omitempty"` // that was tried
		From  string `cbor:"4,keyasint,omitempty"` // the address from which the sender comes, as the server sees it
		Now   int64  `cbor:"5,keyasint,omitempty"` // the server's clock, in Unix milliseconds
	}
)
