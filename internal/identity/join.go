package identity

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"
	"unicode"

	"shoal/internal/wire"
)

// Errors of a join that a caller decides by.
var (
	ErrRequest      = errors.New("the request to join is malformed")
	ErrToken        = errors.New("the link's token is not known here, or was revoked")
	ErrTokenExpired = errors.New("the link has expired")
	ErrTokenUsed    = errors.New("the link has been used as often as it may be")
)

const (
	// TokenLife is how long a token lasts, if nothing else is said.
	TokenLife = 24 * time.Hour
	// maxTokens and maxMembers bound what is kept.
	maxTokens  = 10000
	maxMembers = 1 << 16
	maxMachine = 64
)

// TokenInfo is what is kept of a token: not the token.
type TokenInfo struct {
	ID      string    `json:"id"`   // eight hex digits, to name it by
	Hash    string    `json:"hash"` // its SHA-256
	Role    Role      `json:"role"`
	Made    time.Time `json:"made"`
	Expires time.Time `json:"expires,omitzero"` // never, if zero
	Uses    int       `json:"uses,omitempty"`   // how often it may be used; 0: without limit
	Used    int       `json:"used"`
}

// Joined is a member that this machine has let in.
type Joined struct {
	ID    string    `json:"id"`
	Role  Role      `json:"role"`
	Name  string    `json:"name,omitempty"`
	At    time.Time `json:"at"`
	Token string    `json:"token"` // the id of the token that it came with
	Leaf  []byte    `json:"leaf"`
}

// NewToken makes a token. A life of 0 is for ever, uses of 0 without limit.
func (s *Swarm) NewToken(role Role, life time.Duration, uses int, now time.Time) (Token, TokenInfo, error) {
	var t Token
	if !s.IsServer() {
		return t, TokenInfo{}, ErrNoIssuer
	}
	_, _ = rand.Read(t[:])
	info := TokenInfo{Role: role, Made: now.UTC().Truncate(time.Second), Uses: uses}
	if life > 0 {
		info.Expires = info.Made.Add(life)
	}
	info.Hash, info.ID = hashOf(t)
	err := s.changeTokens(func(all []TokenInfo) ([]TokenInfo, error) {
		all = slices.DeleteFunc(all, func(i TokenInfo) bool { return !i.Expires.IsZero() && now.Sub(i.Expires) > 30*24*time.Hour })
		if len(all) >= maxTokens {
			return nil, fmt.Errorf("there are %d tokens already: revoke some", len(all))
		}
		return append(all, info), nil
	})
	return t, info, err
}

func hashOf(t Token) (hash, id string) {
	sum := sha256.Sum256(t[:])
	h := hex.EncodeToString(sum[:])
	return h, h[:8]
}

func (s *Swarm) changeTokens(change func([]TokenInfo) ([]TokenInfo, error)) error {
	return s.locked(func() error {
		var all []TokenInfo
		if err := s.readJSON("tokens.json", &all); err != nil {
			return err
		}
		all, err := change(all)
		if err != nil {
			return err
		}
		return s.writeJSON("tokens.json", all)
	})
}

// Tokens returns what is kept of all tokens.
func (s *Swarm) Tokens() (all []TokenInfo, err error) {
	return all, s.readJSON("tokens.json", &all)
}

// RevokeToken ends a token. Who came with it stays.
func (s *Swarm) RevokeToken(id string) error {
	return s.changeTokens(func(all []TokenInfo) ([]TokenInfo, error) {
		rest := slices.DeleteFunc(slices.Clone(all), func(i TokenInfo) bool { return i.ID == id })
		if len(rest) == len(all) {
			return nil, fmt.Errorf("there is no token %q", id)
		}
		return rest, nil
	})
}

// joinRequest and joinReply are the bodies of POST /join.
type joinRequest struct {
	Token string `json:"token"`
	CSR   []byte `json:"csr"`
	Name  string `json:"name,omitempty"`
}

type joinReply struct {
	Chain    [][]byte `json:"chain"`
	Removals [][]byte `json:"removals,omitempty"`
}

type joinError struct {
	Code string `json:"code"`
	Text string `json:"text"`
}

var joinCodes = []struct {
	code string
	err  error
}{
	{"request", ErrRequest}, {"token", ErrToken}, {"expired", ErrTokenExpired}, {"used", ErrTokenUsed}, {"removed", ErrRemoved},
}

// EncodeJoinError makes the body that tells why somebody was not let in.
func EncodeJoinError(err error) []byte {
	e := joinError{Code: "server", Text: "the server cannot let anybody in at the moment"}
	for _, c := range joinCodes {
		if errors.Is(err, c.err) {
			e = joinError{c.code, c.err.Error()}
		}
	}
	b, _ := json.Marshal(e)
	return b
}

// DecodeJoinError reads it.
func DecodeJoinError(b []byte) error {
	var e joinError
	if json.Unmarshal(b, &e) == nil {
		for _, c := range joinCodes {
			if c.code == e.Code {
				return c.err
			}
		}
	}
	return errors.New("the server cannot let anybody in at the moment")
}

// Admit answers a request to join. The same key gets its certificate again, whatever has become of the token.
func (s *Swarm) Admit(body []byte, now time.Time) (reply []byte, err error) {
	var req joinRequest
	if err := json.Unmarshal(body, &req); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrRequest, err)
	}
	csr, err := x509.ParseCertificateRequest(req.CSR)
	if err != nil || csr.CheckSignature() != nil {
		return nil, fmt.Errorf("%w: its key does not prove itself", ErrRequest)
	}
	if len(req.Name) > maxMachine {
		req.Name = req.Name[:maxMachine]
	}
	for _, r := range req.Name {
		if unicode.IsControl(r) || r == unicode.ReplacementChar {
			req.Name = ""
			break
		}
	}
	id := peerOf(csr.RawSubjectPublicKeyInfo)
	if s.IsRemoved(id) {
		return nil, ErrRemoved
	}
	var leaf []byte
	err = s.locked(func() error { leaf, err = s.admit(req, csr, id, now); return err })
	if err != nil {
		return nil, err
	}
	return json.Marshal(joinReply{Chain: [][]byte{leaf, s.issuer.Raw, s.authority.Raw}, Removals: s.Removals()})
}

// admit signs a leaf, or finds the one that the key has. The folder is locked.
func (s *Swarm) admit(req joinRequest, csr *x509.CertificateRequest, id PeerID, now time.Time) ([]byte, error) {
	var members []Joined
	if err := s.readJSON("members.json", &members); err != nil {
		return nil, err
	}
	for _, m := range members {
		if m.ID == PeerText(id) {
			return m.Leaf, nil
		}
	}
	token, err := parseToken(req.Token)
	if err != nil {
		return nil, err
	}
	var tokens []TokenInfo
	if err := s.readJSON("tokens.json", &tokens); err != nil {
		return nil, err
	}
	hash, _ := hashOf(token)
	i := slices.IndexFunc(tokens, func(t TokenInfo) bool { return t.Hash == hash })
	switch {
	case i < 0:
		return nil, ErrToken
	case !tokens[i].Expires.IsZero() && now.After(tokens[i].Expires):
		return nil, ErrTokenExpired
	case tokens[i].Uses > 0 && tokens[i].Used >= tokens[i].Uses:
		return nil, ErrTokenUsed
	case len(members) >= maxMembers:
		return nil, fmt.Errorf("the swarm has %d members", len(members))
	}
	key, err := s.keyFile("issuer.key")
	if err != nil {
		return nil, err
	}
	leaf, err := newLeaf(csr.PublicKey, tokens[i].Role, s.id, s.issuer, key)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrRequest, err)
	}
	if _, err := verify(s.authority, s.issuer, leaf); err != nil {
		return nil, fmt.Errorf("%w: %v", ErrRequest, err)
	}
	tokens[i].Used++
	members = append(members, Joined{PeerText(id), tokens[i].Role, req.Name, now.UTC().Truncate(time.Second), tokens[i].ID, leaf.Raw})
	// The use is counted before the member is let in: a crash between the two costs a use, and lets nobody in for nothing.
	if err := s.writeJSON("tokens.json", tokens); err != nil {
		return nil, err
	}
	return leaf.Raw, s.writeJSON("members.json", members)
}

// Members returns who was ever let in, as far as this machine knows.
func (s *Swarm) Members() (out []wire.Member) {
	var all []Joined
	_ = s.readJSON("members.json", &all)
	for _, m := range all {
		id, err := ParsePeer(m.ID)
		if err == nil {
			out = append(out, wire.Member{ID: id, Name: m.Name, Role: string(m.Role), Joined: m.At.Unix(), Removed: s.IsRemoved(id)})
		}
	}
	return out
}

// Joining is a join under way: its key is kept, so that the same request can be made again.
type Joining struct {
	st   *States
	s    *Swarm
	link Link
	Body []byte // for POST /join
}

// BeginJoin makes the request to join the swarm of a link. One that was begun before is repeated with the same key.
func (st *States) BeginJoin(link Link, machine string) (*Joining, error) {
	dir, err := st.makeFolder(link.Swarm)
	if err != nil {
		return nil, err
	}
	s := &Swarm{dir: dir, id: link.Swarm}
	j := &Joining{st: st, s: s, link: link}
	err = s.locked(func() error {
		key, err := s.keyFile("leaf.key")
		if errors.Is(err, fs.ErrNotExist) {
			if key, err = newKey(); err != nil {
				return err
			}
			b, err := keyPEM(key)
			if err != nil {
				return err
			}
			if err := s.write("leaf.key", b); err != nil {
				return err
			}
		} else if err != nil {
			return err
		}
		csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
		if err != nil {
			return err
		}
		j.Body, err = json.Marshal(joinRequest{link.Token.Secret(), csr, machine})
		return err
	})
	return j, err
}

// Finish takes the server's answer, and makes this machine a member.
func (j *Joining) Finish(reply []byte) (*Swarm, error) {
	var r joinReply
	if err := json.Unmarshal(reply, &r); err != nil || len(r.Chain) != 3 {
		return nil, errors.New("the server's answer to the join is malformed")
	}
	var chain [3]*x509.Certificate
	for i, der := range r.Chain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("the server's answer to the join: %w", err)
		}
		chain[i] = c
	}
	if err := checkAuthority(chain[2], j.link.Swarm); err != nil {
		return nil, err
	}
	m, err := verify(chain[2], chain[1], chain[0])
	if err != nil {
		return nil, err
	}
	key, err := j.s.keyFile("leaf.key")
	if err != nil {
		return nil, err
	}
	if !m.key.Equal(key.Public()) {
		return nil, fmt.Errorf("%w: it is for another key", ErrForeign)
	}
	if err := errors.Join(j.s.SetServers(j.link.Addrs), j.s.writeChain(chain[2], chain[1], chain[0])); err != nil {
		return nil, err
	}
	s, err := j.st.Swarm(j.link.Swarm)
	if err != nil {
		return nil, err
	}
	_, err = s.Merge(r.Removals)
	return s, err
}
