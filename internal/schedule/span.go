package schedule

import "slices"

// Lists of spans are in rising order and do not touch: units that follow each other are in one span.

// addUnit adds one unit to a list that does not have it.
func addUnit(list []span, u uint32) []span { return merge(list, span{u, u}) }

// merge adds a span to a list that has nothing of it.
func merge(list []span, s span) []span {
	i, _ := slices.BinarySearchFunc(list, s.first, func(x span, first uint32) int {
		if x.first < first {
			return -1
		}
		return 1
	})
	if i < len(list) && s.last+1 == list[i].first {
		s.last = list[i].last
		list = slices.Delete(list, i, i+1)
	}
	if i > 0 && list[i-1].last+1 == s.first {
		list[i-1].last = s.last
		return list
	}
	return slices.Insert(list, i, s)
}

// total returns how many units a list has.
func total(list []span) uint32 {
	n := uint32(0)
	for _, s := range list {
		n += s.len()
	}
	return n
}

// dropFirst takes the first unit out of a list that is not empty.
func dropFirst(list []span) []span {
	if list[0].len() == 1 {
		return list[1:]
	}
	list[0].first++
	return list
}

// split cuts a list in two, behind its first n units.
func split(list []span, n uint32) (head, tail []span) {
	for i, s := range list {
		switch {
		case n == 0:
			return head, append(tail, list[i:]...)
		case n >= s.len():
			head = append(head, s)
			n -= s.len()
		default:
			head = append(head, span{s.first, s.first + n - 1})
			tail = append(tail, span{s.first + n, s.last})
			n = 0
			return head, append(tail, list[i+1:]...)
		}
	}
	return head, tail
}
