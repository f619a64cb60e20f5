package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
)

// journal is the record of a download: what it is of, and which of its units are on disk. docs/STORE.md section 2.
//
//	offset  size  field
//	     0     8  magic and version: "shoalj01"
//	     8     1  layout: 1 one file, 2 a file for each unit, 3 a directory
//	     9     8  unit size in bytes
//	    17     8  size of the content in bytes
//	    25     2  length of the name, n
//	    27     n  name
//	  27+n     4  CRC-32C of all before
//
// and then records of 13 bytes, only ever appended:
//
//	offset  size  field
//	     0     1  kind: 1 units are there, 2 the files of units were made by us (layout 2)
//	     1     4  first unit
//	     5     4  how many
//	     9     4  CRC-32C of the nine bytes before, begun with the header's CRC
//
// Numbers are big-endian. What follows the first record that does not check was torn by a crash, and counts for nothing.
type journal struct {
	Layout   Layout
	UnitSize int64
	Size     int64
	Name     string
}

func (j journal) String() string {
	layout := "one file"
	if j.Layout == UnitFiles {
		layout = "chunk files"
	}
	return fmt.Sprintf("%d bytes in chunks of %d, %s", j.Size, j.UnitSize, layout)
}

const (
	journalMagic   = "shoalj"
	journalVersion = "01"
	journalFixed   = 27
	recordSize     = 13
	maxJournalName = 4096
)

// recordKind says what a record tells of its units.
type recordKind byte

const (
	recordThere recordKind = 1 // they are complete and synced
	recordMade  recordKind = 2 // their files, which nobody else had made, are ours
	recordClean recordKind = 3 // the last run was stopped properly; the two numbers are the stamp of the data file
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ErrNewer is a file that a later version of this program wrote.
var ErrNewer = errors.New("written by a newer version")

// errTorn is a journal whose header a crash or a stranger spoilt: it proves nothing.
var errTorn = errors.New("journal header is not whole")

// append writes the header to the end of b, and returns the sum with which records begin theirs.
func (j journal) append(b []byte) (out []byte, sum uint32) {
	start := len(b)
	b = append(b, journalMagic+journalVersion...)
	b = append(b, byte(j.Layout))
	b = binary.BigEndian.AppendUint64(b, uint64(j.UnitSize))
	b = binary.BigEndian.AppendUint64(b, uint64(j.Size))
	b = binary.BigEndian.AppendUint16(b, uint16(len(j.Name)))
	b = append(b, j.Name...)
	sum = crc32.Checksum(b[start:], castagnoli)
	return binary.BigEndian.AppendUint32(b, sum), sum
}

// appendRecord writes a record of the units first to first+count-1.
func appendRecord(b []byte, sum uint32, kind recordKind, first, count uint32) []byte {
	start := len(b)
	b = append(b, byte(kind))
	b = binary.BigEndian.AppendUint32(b, first)
	b = binary.BigEndian.AppendUint32(b, count)
	return binary.BigEndian.AppendUint32(b, crc32.Update(sum, castagnoli, b[start:]))
}

// replay reads a journal: its header, then each record. It returns how many bytes of r were whole. Memory does
// not grow with what r holds or claims.
func replay(r io.Reader, header func(journal) error, tell func(kind recordKind, first, count uint32)) (whole int64, err error) {
	fixed := make([]byte, journalFixed)
	if _, err := io.ReadFull(r, fixed); err != nil {
		return 0, errTorn
	}
	if !bytes.HasPrefix(fixed, []byte(journalMagic)) {
		return 0, errTorn
	}
	if version := string(fixed[6:8]); version > journalVersion {
		return 0, fmt.Errorf("journal version %q: %w", version, ErrNewer)
	}
	n := int(binary.BigEndian.Uint16(fixed[25:]))
	if n > maxJournalName {
		return 0, errTorn
	}
	rest := make([]byte, n+4)
	if _, err := io.ReadFull(r, rest); err != nil {
		return 0, errTorn
	}
	j := journal{
		Layout:   Layout(fixed[8]),
		UnitSize: int64(binary.BigEndian.Uint64(fixed[9:])),
		Size:     int64(binary.BigEndian.Uint64(fixed[17:])),
		Name:     string(rest[:n]),
	}
	want, sum := j.append(nil)
	if !bytes.Equal(want, append(fixed, rest...)) || j.Size < 0 || j.UnitSize <= 0 {
		return 0, errTorn
	}
	if err := header(j); err != nil {
		return 0, err
	}
	whole = int64(len(want))
	record := make([]byte, recordSize)
	for {
		if _, err := io.ReadFull(r, record); err != nil {
			return whole, nil
		}
		kind := recordKind(record[0])
		first, count := binary.BigEndian.Uint32(record[1:]), binary.BigEndian.Uint32(record[5:])
		if !bytes.Equal(record, appendRecord(nil, sum, kind, first, count)) {
			return whole, nil
		}
		tell(kind, first, count)
		whole += recordSize
	}
}
