package node

import (
	"shoal/internal/bundle"
	"shoal/internal/content"
	"shoal/internal/store"
)

// Withdraw ends the giving of a content, whatever its names, and lets go of the file. What is under way to others fails.
func (m *Member) Withdraw(s *Sharing) {
	id := s.Manifest.ID
	m.mu.Lock()
	given := m.shares[id]
	delete(m.shares, id)
	m.mu.Unlock()
	if given != nil {
		m.x.Remove(id)
		m.client.Retract(id)
		m.client.Follow(id, false)
		m.ss.forget(id)
		_ = given.source.Close()
	}
	_ = s.source.Close()
}

// Drop lets go of a file that was prepared and is not given.
func (m *Member) Drop(s *Sharing) { _ = s.source.Close() }

// Entered says whether a server of the swarm knows of us at this moment.
func (m *Member) Entered() bool { return !m.away.Load() }

// Offences returns how often peers did what they must not, by reason.
func (m *Member) Offences() map[string]uint64 { return m.book.Counts() }

// Pieces returns which pieces of a fetch are verified; nil while its manifest is not known.
func (f *Fetch) Pieces() []bool {
	if st := f.status.Load(); st.Phase != Fetching && st.Phase != Complete || f.d == nil {
		return nil
	}
	return f.d.Snapshot()
}

// Rarest says of each of so many columns of pieces how many neighbours have the missing piece of it that the fewest have; -1: none is missing there.
// It is nil while no pieces are fetched.
func (f *Fetch) Rarest(columns int) []int {
	if st := f.status.Load(); st.Phase != Fetching {
		return nil
	}
	return f.m.x.Rarest(f.entry.ID, columns)
}

// OfferName says that what is given already has one more name: that of a share that was prepared.
func (m *Member) OfferName(s *Sharing) {
	if s.record != nil {
		m.client.Offer(*s.record)
		s.record = nil
	}
}

// Same says whether the file has the stamp that it had when it was hashed.
func (s *Sharing) Same() bool { return s.source.Same() }

// DiscardFetch removes what a fetch that is not complete has left in a folder: one of a directory, of what was chosen in it.
func DiscardFetch(dir, target string, id content.ID, directory bool, of bundle.Selection) error {
	return store.Discard(dir, fetchKey(id, target, directory, of))
}
