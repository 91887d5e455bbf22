// Package stream is the raw way within one shard: the streams of its copies, each with a TCP
// connection of our own (package tcp), found by the tuple that the target sees.
//
// It is pure. A Table takes in what the intercepts report, and hands out segments, and messages for
// the intercepts. Package raw, which owns a shard's sockets and the links to the intercepts, moves
// both; the shard calls Open and Poll. Start with Table, then the states of a Stream below.
//
// # States of a Stream
//
// A Stream is in one of these states:
//
//	Failed   it could not begin; its session learns that at the next Poll
//	Queued   it waits for another Stream of ours with the same tuple to end
//	Opening  its SYN was sent, or is due
//	Open     the target has accepted the connection
//	Shut     the target has ended its direction as well
//	Over     nothing follows; the Stream may be used again for another copy
//
// The table says what each event does in each state, and the state that follows; "-" means that the
// event cannot occur, "." that it changes nothing. "tell X" is an event for the session.
//
//	event         Failed            Queued            Opening           Open              Shut
//	Release       note > Failed     note > Queued     pass on > Opening pass on > Open    pass on > Shut
//	CloseWrite    note > Failed     note > Queued     pass on > Opening pass on > Open    pass on > Shut
//	Abort         . > Over          leave queue > Over reset > Over     reset > Over      reset > Over
//	Poll          tell Failed > Over . > Queued       send > Opening    send > Open       send > Shut
//	takeover      -                 end others > Opening -              -                 -
//	turn          -                 send SYN > Opening -                -                 -
//	SYN-ACK       -                 -                 tell Opened > Open . > Open         . > Shut
//	FIN           -                 -                 . > Opening       tell Shut > Shut  . > Shut
//	reset         -                 -                 tell Failed > Over tell Reset > Over tell Reset > Over
//	silence       -                 -                 tell Failed > Over tell Failed > Over tell Failed > Over
//	both closed   -                 -                 -                 -                 tell Finished > Over
//	Taken         -                 -                 tell Failed > Over . > Open         . > Shut
//
// "takeover" is a Poll when the Stream has been in the queue for too long: the Streams before it are
// ended. "turn" is the end of the last Stream before it. "silence" is a time-out: of the connection
// attempt, or of data that the target does not acknowledge. "Taken" is an intercept's word that another
// copier has the tuple. In Opening, an ACK that belongs to an old connection (RFC 5961 section 4) makes
// the Stream ask the intercepts whose that is (Queries), and a SYN that is not the first waits until
// they have said that no other copier has the tuple (Seeks).
//
// Our own direction has a state of its own: unended, then endWanted from CloseWrite until the last
// bytes are passed to the connection, then ended.
//
// # States of the reading of answers
//
// The intercepts can read what the target sends as answers of a protocol. They are not on the path of
// the requests, so bytes whose answer depends on what they were told wait until all intercepts have
// confirmed that. A Stream's reading is in one of these states:
//
//	readOff     no protocol is known, and the intercepts keep nothing
//	readKept    no protocol is known; the intercepts keep what the target says first
//	readWanted  a protocol is known, but the Stream has not begun
//	readAsked   the intercepts were told; they were not told the target's first sequence number
//	readBased   they were told that as well
//	readWhole   one of them has the connection from its beginning; others have to confirm
//	readSettled they read the answers
//	readLost    the answers cannot be read; the session does not know yet
//	readEnded   the session knows
//
// What each event does:
//
//	event        readOff     readKept    readWanted  readAsked   readBased   readWhole   readSettled
//	begin        > Off, Kept -           > Asked     -           -           -           -
//	ReadAnswers  > Asked ... > Asked ... -           -           -           -           -
//	Expect       .           .           > Wanted    > Asked     > Based     > Whole     > Settled
//	confirmed    .           .           .           > Asked     > Based     > Whole     > Settled
//	  whole      .           .           .           > Whole     > Whole     > Whole     > Settled
//	  by all     .           .           .           > Based ... > Settled ...> Settled  > Settled
//	lost         .           .           -           > Lost      > Lost      > Lost      > Lost
//	no answer    .           .           -           > Lost      > Lost      > Lost      > Lost
//	SetReaders   > Off       > Off       -           > Lost      > Lost      > Lost      > Lost
//
// ReadAnswers goes to readWanted while the Stream has not begun, to readBased where the target's first
// sequence number is known, and to readLost where no intercept reads, or where the target has spoken
// and the intercepts did not keep it. When all have confirmed and none has the beginning, readAsked
// goes to readBased and asks again if the SYN-ACK has come meanwhile; both go to readLost if the target
// has sent data, and to readSettled otherwise. readLost goes to readEnded when the session is told;
// neither leaves that for another event.
package stream
