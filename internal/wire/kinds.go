package wire

import "reflect"

var kinds = map[Type]reflect.Type{
	TypeHello:    reflect.TypeFor[Hello](),
	TypeUse:      reflect.TypeFor[Use](),
	TypePing:     reflect.TypeFor[Ping](),
	TypePong:     reflect.TypeFor[Pong](),
	TypeBye:      reflect.TypeFor[Bye](),
	TypeOpen:     reflect.TypeFor[Open](),
	TypeInfo:     reflect.TypeFor[Info](),
	TypeRefuse:   reflect.TypeFor[Refuse](),
	TypeManifest: reflect.TypeFor[Manifest](),
	TypePart:     reflect.TypeFor[Part](),
	TypeHave:     reflect.TypeFor[Have](),
	TypeReset:    reflect.TypeFor[Reset](),
	TypeWant:     reflect.TypeFor[Want](),
	TypeCredit:   reflect.TypeFor[Credit](),
	TypeGet:      reflect.TypeFor[Get](),
	TypePass:     reflect.TypeFor[Pass](),
	TypeCancel:   reflect.TypeFor[Cancel](),
	TypeEnd:      reflect.TypeFor[End](),
	TypeClose:    reflect.TypeFor[Close](),
	TypeClaim:    reflect.TypeFor[Claim](),
	TypeSeek:     reflect.TypeFor[Seek](),
	TypeHere:     reflect.TypeFor[Here](),
	TypeProof:    reflect.TypeFor[Proof](),
	TypeSpare:    reflect.TypeFor[Spare](),
	TypeEnter:    reflect.TypeFor[Enter](),
	TypeOffer:    reflect.TypeFor[Offer](),
	TypeHold:     reflect.TypeFor[Hold](),
	TypeRetract:  reflect.TypeFor[Retract](),
	TypeFind:     reflect.TypeFor[Find](),
	TypeList:     reflect.TypeFor[List](),
	TypeFound:    reflect.TypeFor[Found](),
	TypeFollow:   reflect.TypeFor[Follow](),
	TypePeers:    reflect.TypeFor[Peers](),
	TypeRemoved:  reflect.TypeFor[Removed](),
	TypeLeave:    reflect.TypeFor[Leave](),
	TypeWho:      reflect.TypeFor[Who](),
	TypeThere:    reflect.TypeFor[There](),
	TypeFailed:   reflect.TypeFor[Failed](),
	TypeReach:    reflect.TypeFor[Reach](),
	TypeReached:  reflect.TypeFor[Reached](),
}

// Type returns TypeHello.
func (*Hello) Type() Type { return TypeHello }

// Type returns TypeUse.
func (*Use) Type() Type { return TypeUse }

// Type returns TypePing.
func (*Ping) Type() Type { return TypePing }

// Type returns TypePong.
func (*Pong) Type() Type { return TypePong }

// Type returns TypeBye.
func (*Bye) Type() Type { return TypeBye }

// Type returns TypeOpen.
func (*Open) Type() Type { return TypeOpen }

// Type returns TypeInfo.
func (*Info) Type() Type { return TypeInfo }

// Type returns TypeRefuse.
func (*Refuse) Type() Type { return TypeRefuse }

// Type returns TypeManifest.
func (*Manifest) Type() Type { return TypeManifest }

// Type returns TypePart.
func (*Part) Type() Type { return TypePart }

// Type returns TypeHave.
func (*Have) Type() Type { return TypeHave }

// Type returns TypeReset.
func (*Reset) Type() Type { return TypeReset }

// Type returns TypeWant.
func (*Want) Type() Type { return TypeWant }

// Type returns TypeCredit.
func (*Credit) Type() Type { return TypeCredit }

// Type returns TypeGet.
func (*Get) Type() Type { return TypeGet }

// Type returns TypePass.
func (*Pass) Type() Type { return TypePass }

// Type returns TypeCancel.
func (*Cancel) Type() Type { return TypeCancel }

// Type returns TypeEnd.
func (*End) Type() Type { return TypeEnd }

// Type returns TypeClose.
func (*Close) Type() Type { return TypeClose }

// Type returns TypeClaim.
func (*Claim) Type() Type { return TypeClaim }

// Type returns TypeSeek.
func (*Seek) Type() Type { return TypeSeek }

// Type returns TypeHere.
func (*Here) Type() Type { return TypeHere }

// Type returns TypeProof.
func (*Proof) Type() Type { return TypeProof }

// Type returns TypeSpare.
func (*Spare) Type() Type { return TypeSpare }

// Type returns TypeEnter.
func (*Enter) Type() Type { return TypeEnter }

// Type returns TypeOffer.
func (*Offer) Type() Type { return TypeOffer }

// Type returns TypeHold.
func (*Hold) Type() Type { return TypeHold }

// Type returns TypeRetract.
func (*Retract) Type() Type { return TypeRetract }

// Type returns TypeFind.
func (*Find) Type() Type { return TypeFind }

// Type returns TypeList.
func (*List) Type() Type { return TypeList }

// Type returns TypeFound.
func (*Found) Type() Type { return TypeFound }

// Type returns TypeFollow.
func (*Follow) Type() Type { return TypeFollow }

// Type returns TypePeers.
func (*Peers) Type() Type { return TypePeers }

// Type returns TypeRemoved.
func (*Removed) Type() Type { return TypeRemoved }

// Type returns TypeLeave.
func (*Leave) Type() Type { return TypeLeave }

// Type returns TypeWho.
func (*Who) Type() Type { return TypeWho }

// Type returns TypeThere.
func (*There) Type() Type { return TypeThere }

// Type returns TypeFailed.
func (*Failed) Type() Type { return TypeFailed }

// Type returns TypeReach.
func (*Reach) Type() Type { return TypeReach }

// Type returns TypeReached.
func (*Reached) Type() Type { return TypeReached }
