/*
 * The instructions under test, one line a form, in a notation close to the manuals' (Intel SDM
 * volume 2, 3.1.1).
 *
 * Encoding, tokens separated by spaces:
 *     66 F2 F3     in front of others: a mandatory prefix
 *     XX           an opcode byte
 *     XX+n XX+8n   ... plus the index of the name, or eight times that
 *     XX+r         ... plus a register number, high bit in REX.B
 *     XX+i XX+8ni  ... plus a number of 0 to 7 without REX (x87 registers)
 *     /r           a ModRM byte with a register; /0 to /7: with that digit; /n: the name's index
 *     ib iw id     an immediate of 1, 2, 4 bytes; iv of the operand size, at most 4; iq up to 8
 *     is           a register in the high half of an immediate byte
 *     moffs        an absolute 8-byte address
 *     W1           REX.W set
 *     VEX.a.b.c    instead of prefixes and escape: NDS (vvvv is an operand), 128, 256 or LIG, 66 F2
 *                  F3, 0F 0F38 0F3A, W0 W1 WIG or Wy (from the operand size)
 *
 * Options, letters:
 *     b v y q      operand sizes 8; 16, 32 and 64; 32 and 64; 16 and 64 (64 without REX.W)
 *     m r          memory or register form only
 *     L            may be locked when its operand is memory
 *     3 2          has an AVX form with three or two operands, 128 and 256 bits wide
 *     s t          has a scalar AVX form with three or two operands
 *     1 0          has an AVX form of 128 bits only with three or two operands
 *     C            shift or rotate: the count is CL or the immediate
 *     B            the register operand is a bit offset
 *     D            divides RDX:RAX
 *     P E          uses the stack; and RBP as a frame pointer
 *     I X K        string instruction; XLAT; implicit memory operand at RDI
 *     G g          gather by 32-bit, 64-bit indices
 *     J T R        jumps: relative, to its operand, to the top of the stack
 *     F            takes its operand from random x87 state
 */
#include <string.h>

#include "insn.h"

#define ALU "add or adc sbb and sub xor cmp"
#define SHIFT "rol ror rcl rcr shl shr sal sar"
#define BIT "- - - - bt bts btr btc"
#define CC(p)                                                                                      \
    p "o " p "no " p "b " p "ae " p "e " p "ne " p "be " p "a " p "s " p "ns " p "p " p "np " p    \
      "l " p "ge " p "le " p "g"

const struct form forms[] = {
    /* Arithmetic and logic. */
    {ALU, "00+8n /r", "bL", 0},
    {ALU, "01+8n /r", "vL", 0},
    {ALU, "02+8n /r", "b", 0},
    {ALU, "03+8n /r", "v", 0},
    {ALU, "04+8n ib", "b", 0},
    {ALU, "05+8n iv", "v", 0},
    {ALU, "80 /n ib", "bL", 0},
    {ALU, "81 /n iv", "vL", 0},
    {ALU, "83 /n ib", "vL", 0},
    {"test", "84 /r", "b", 0},
    {"test", "85 /r", "v", 0},
    {"test", "A8 ib", "b", 0},
    {"test", "A9 iv", "v", 0},
    {"test", "F6 /0 ib", "b", 0},
    {"test", "F7 /0 iv", "v", 0},
    {"- - not neg", "F6 /n", "bL", 0},
    {"- - not neg", "F7 /n", "vL", 0},
    {"inc dec", "FE /n", "bL", 0},
    {"inc dec", "FF /n", "vL", 0},
    {"mul", "F6 /4", "b", 0},
    {"mul", "F7 /4", "v", 0},
    {"imul", "F6 /5", "b", 0},
    {"imul", "F7 /5", "v", 0},
    {"imul", "0F AF /r", "v", 0},
    {"imul", "69 /r iv", "v", 0},
    {"imul", "6B /r ib", "v", 0},
    {"div", "F6 /6", "bD", 0},
    {"div", "F7 /6", "vD", 0},
    {"idiv", "F6 /7", "bD", 0},
    {"idiv", "F7 /7", "vD", 0},
    {"cbw", "98", "v", 0},
    {"cwd", "99", "v", 0},
    {"adcx", "66 0F 38 F6 /r", "y", FEATURE_ADX},
    {"adox", "F3 0F 38 F6 /r", "y", FEATURE_ADX},

    /* Shifts, bits. */
    {SHIFT, "C0 /n ib", "bC", 0},
    {SHIFT, "C1 /n ib", "vC", 0},
    {SHIFT, "D0 /n", "b", 0},
    {SHIFT, "D1 /n", "v", 0},
    {SHIFT, "D2 /n", "bC", 0},
    {SHIFT, "D3 /n", "vC", 0},
    {"shld", "0F A4 /r ib", "vC", 0},
    {"shld", "0F A5 /r", "vC", 0},
    {"shrd", "0F AC /r ib", "vC", 0},
    {"shrd", "0F AD /r", "vC", 0},
    {"bt", "0F A3 /r", "vB", 0},
    {"bts", "0F AB /r", "vBL", 0},
    {"btr", "0F B3 /r", "vBL", 0},
    {"btc", "0F BB /r", "vBL", 0},
    {BIT, "0F BA /n ib", "vL", 0},
    {"bsf", "0F BC /r", "v", 0},
    {"bsr", "0F BD /r", "v", 0},
    {"tzcnt", "F3 0F BC /r", "v", FEATURE_BMI1},
    {"lzcnt", "F3 0F BD /r", "v", FEATURE_LZCNT},
    {"popcnt", "F3 0F B8 /r", "v", FEATURE_POPCNT},
    {"bswap", "0F C8+r", "y", 0},
    {"crc32", "F2 0F 38 F0 /r", "b", FEATURE_SSE42},
    {"crc32", "F2 0F 38 F1 /r", "v", FEATURE_SSE42},
    {"andn", "VEX.NDS.LZ.0F38.Wy F2 /r", "y", FEATURE_BMI1},
    {"bextr", "VEX.NDS.LZ.0F38.Wy F7 /r", "y", FEATURE_BMI1},
    {"- blsr blsmsk blsi", "VEX.NDS.LZ.0F38.Wy F3 /n", "y", FEATURE_BMI1},
    {"bzhi", "VEX.NDS.LZ.0F38.Wy F5 /r", "y", FEATURE_BMI2},
    {"mulx", "VEX.NDS.LZ.F2.0F38.Wy F6 /r", "y", FEATURE_BMI2},
    {"pdep", "VEX.NDS.LZ.F2.0F38.Wy F5 /r", "y", FEATURE_BMI2},
    {"pext", "VEX.NDS.LZ.F3.0F38.Wy F5 /r", "y", FEATURE_BMI2},
    {"rorx", "VEX.LZ.F2.0F3A.Wy F0 /r ib", "y", FEATURE_BMI2},
    {"sarx", "VEX.NDS.LZ.F3.0F38.Wy F7 /r", "y", FEATURE_BMI2},
    {"shlx", "VEX.NDS.LZ.66.0F38.Wy F7 /r", "y", FEATURE_BMI2},
    {"shrx", "VEX.NDS.LZ.F2.0F38.Wy F7 /r", "y", FEATURE_BMI2},

    /* Moves. */
    {"mov", "88 /r", "b", 0},
    {"mov", "89 /r", "v", 0},
    {"mov", "8A /r", "b", 0},
    {"mov", "8B /r", "v", 0},
    {"mov", "A0 moffs", "b", 0},
    {"mov", "A1 moffs", "v", 0},
    {"mov", "A2 moffs", "b", 0},
    {"mov", "A3 moffs", "v", 0},
    {"mov", "B0+r ib", "b", 0},
    {"mov", "B8+r iq", "v", 0},
    {"mov", "C6 /0 ib", "b", 0},
    {"mov", "C7 /0 iv", "v", 0},
    {"mov", "8C /1", "v", 0}, /* from CS */
    {"mov", "8C /2", "v", 0}, /* from SS */
    {"movzx", "0F B6 /r", "v", 0},
    {"movzx", "0F B7 /r", "v", 0},
    {"movsx", "0F BE /r", "v", 0},
    {"movsx", "0F BF /r", "v", 0},
    {"movsxd", "63 /r", "v", 0},
    {"movbe", "0F 38 F0 /r", "vm", FEATURE_MOVBE},
    {"movbe", "0F 38 F1 /r", "vm", FEATURE_MOVBE},
    {"movnti", "0F C3 /r", "ym", 0},
    {"lea", "8D /r", "vm", 0},
    {CC("cmov"), "0F 40+n /r", "v", 0},
    {CC("set"), "0F 90+n /0", "b", 0},
    {"xchg", "86 /r", "bL", 0},
    {"xchg", "87 /r", "vL", 0},
    {"xchg", "90+r", "v", 0},
    {"xadd", "0F C0 /r", "bL", 0},
    {"xadd", "0F C1 /r", "vL", 0},
    {"cmpxchg", "0F B0 /r", "bL", 0},
    {"cmpxchg", "0F B1 /r", "vL", 0},
    {"cmpxchg8b", "0F C7 /1", "mL", 0},
    {"cmpxchg16b", "W1 0F C7 /1", "mL", FEATURE_CX16},
    {"xlat", "D7", "bX", 0},
    {"clc stc", "F8+n", "", 0},
    {"cmc", "F5", "", 0},
    {"cld std", "FC+n", "", 0},
    {"sahf lahf", "9E+n", "", 0},
    {"nop", "0F 1F /0", "v", 0},
    {"pause", "F3 90", "", 0},
    {"endbr64", "F3 0F 1E FA", "", 0},
    {"rdfsbase rdgsbase", "F3 0F AE /n", "yr", FEATURE_FSGSBASE},
    {"lfence", "0F AE E8", "", 0},
    {"mfence", "0F AE F0", "", 0},
    {"sfence", "0F AE F8", "", 0},
    {"prefetcht0", "0F 18 /1", "m", 0},
    {"clflush", "0F AE /7", "m", 0},

    /* Stack. */
    {"push", "50+r", "qP", 0},
    {"pop", "58+r", "qP", 0},
    {"push", "68 iv", "qP", 0},
    {"push", "6A ib", "qP", 0},
    {"push", "FF /6", "qP", 0},
    {"pop", "8F /0", "qP", 0},
    {"pushf popf", "9C+n", "qP", 0},
    {"enter", "C8 iw ib", "qPE", 0},
    {"leave", "C9", "qPE", 0},

    /* Control flow. */
    {CC("j"), "70+n ib", "J", 0},
    {CC("j"), "0F 80+n id", "J", 0},
    {"loopne loope loop jrcxz", "E0+n ib", "J", 0},
    {"jmp", "EB ib", "J", 0},
    {"jmp", "E9 id", "J", 0},
    {"call", "E8 id", "JP", 0},
    {"call", "FF /2", "TP", 0},
    {"jmp", "FF /4", "T", 0},
    {"ret", "C3", "RP", 0},
    {"ret", "C2 iw", "RP", 0},

    /* Strings. */
    {"movs", "A4", "bI", 0},
    {"movs", "A5", "vI", 0},
    {"cmps", "A6", "bI", 0},
    {"cmps", "A7", "vI", 0},
    {"stos", "AA", "bI", 0},
    {"stos", "AB", "vI", 0},
    {"lods", "AC", "bI", 0},
    {"lods", "AD", "vI", 0},
    {"scas", "AE", "bI", 0},
    {"scas", "AF", "vI", 0},

    /* What user mode may not do: each must fault alike. */
    {"ud2", "0F 0B", "", 0},
    {"int3", "CC", "", 0},
    {"int", "CD 21", "", 0},
    {"hlt", "F4", "", 0},
    {"cli sti", "FA+n", "", 0},
    {"in", "E4 ib", "b", 0},
    {"out", "EF", "v", 0},
    {"wrmsr", "0F 30", "", 0},
    {"mov-cr", "0F 20 C0", "", 0},
    {"mov-dr", "0F 21 C0", "", 0},
    {"lgdt lidt", "0F 01 15+8n 00 10 00 10", "", 0},
    {"invlpg", "0F 01 3D 00 10 00 10", "", 0},
    {"wbinvd", "0F 09", "", 0},
    {"clts", "0F 06", "", 0},
    {"bad", "06+8n", "", 0},
    {"bad", "0F FF C0", "", 0},

    /* SSE and SSE2: moves. */
    {"movups movups", "0F 10+n /r", "2", 0},
    {"movupd movupd", "66 0F 10+n /r", "2", 0},
    {"movaps movaps", "0F 28+n /r", "2", 0},
    {"movapd movapd", "66 0F 28+n /r", "2", 0},
    {"movss movss", "F3 0F 10+n /r", "mt", 0},
    {"movsd movsd", "F2 0F 10+n /r", "mt", 0},
    {"movss movss", "F3 0F 10+n /r", "rs", 0},
    {"movsd movsd", "F2 0F 10+n /r", "rs", 0},
    {"movlps/movhlps", "0F 12 /r", "1", 0},
    {"movlps", "0F 13 /r", "m0", 0},
    {"movlpd", "66 0F 12 /r", "m1", 0},
    {"movlpd", "66 0F 13 /r", "m0", 0},
    {"movhps/movlhps", "0F 16 /r", "1", 0},
    {"movhps", "0F 17 /r", "m0", 0},
    {"movhpd", "66 0F 16 /r", "m1", 0},
    {"movhpd", "66 0F 17 /r", "m0", 0},
    {"movsldup", "F3 0F 12 /r", "2", FEATURE_SSE3},
    {"movshdup", "F3 0F 16 /r", "2", FEATURE_SSE3},
    {"movddup", "F2 0F 12 /r", "2", FEATURE_SSE3},
    {"movdqa", "66 0F 6F /r", "2", 0},
    {"movdqa", "66 0F 7F /r", "2", 0},
    {"movdqu", "F3 0F 6F /r", "2", 0},
    {"movdqu", "F3 0F 7F /r", "2", 0},
    {"movd", "66 0F 6E /r", "y0", 0},
    {"movd", "66 0F 7E /r", "y0", 0},
    {"movq", "F3 0F 7E /r", "0", 0},
    {"movq", "66 0F D6 /r", "0", 0},
    {"movntps", "0F 2B /r", "m2", 0},
    {"movntdq", "66 0F E7 /r", "m2", 0},
    {"lddqu", "F2 0F F0 /r", "m2", FEATURE_SSE3},
    {"movmskps", "0F 50 /r", "r2", 0},
    {"movmskpd", "66 0F 50 /r", "r2", 0},
    {"maskmovdqu", "66 0F F7 /r", "rK0", 0},
    {"ldmxcsr", "0F AE /2", "m", 0},
    {"stmxcsr", "0F AE /3", "m0", 0},

    /* Arithmetic on floats and doubles, packed and scalar. */
    {"addps mulps", "0F 58+n /r", "3", 0},
    {"addpd mulpd", "66 0F 58+n /r", "3", 0},
    {"addss mulss", "F3 0F 58+n /r", "s", 0},
    {"addsd mulsd", "F2 0F 58+n /r", "s", 0},
    {"subps minps divps maxps", "0F 5C+n /r", "3", 0},
    {"subpd minpd divpd maxpd", "66 0F 5C+n /r", "3", 0},
    {"subss minss divss maxss", "F3 0F 5C+n /r", "s", 0},
    {"subsd minsd divsd maxsd", "F2 0F 5C+n /r", "s", 0},
    {"sqrtps rsqrtps rcpps", "0F 51+n /r", "2", 0},
    {"sqrtpd", "66 0F 51 /r", "2", 0},
    {"sqrtss rsqrtss rcpss", "F3 0F 51+n /r", "s", 0},
    {"sqrtsd", "F2 0F 51 /r", "s", 0},
    {"andps andnps orps xorps", "0F 54+n /r", "3", 0},
    {"andpd andnpd orpd xorpd", "66 0F 54+n /r", "3", 0},
    {"unpcklps unpckhps", "0F 14+n /r", "3", 0},
    {"unpcklpd unpckhpd", "66 0F 14+n /r", "3", 0},
    {"shufps", "0F C6 /r ib", "3", 0},
    {"shufpd", "66 0F C6 /r ib", "3", 0},
    {"cmpps", "0F C2 /r ib", "3", 0},
    {"cmppd", "66 0F C2 /r ib", "3", 0},
    {"cmpss", "F3 0F C2 /r ib", "s", 0},
    {"cmpsd", "F2 0F C2 /r ib", "s", 0},
    {"ucomiss comiss", "0F 2E+n /r", "t", 0},
    {"ucomisd comisd", "66 0F 2E+n /r", "t", 0},
    {"addsubps", "F2 0F D0 /r", "3", FEATURE_SSE3},
    {"addsubpd", "66 0F D0 /r", "3", FEATURE_SSE3},
    {"haddps hsubps", "F2 0F 7C+n /r", "3", FEATURE_SSE3},
    {"haddpd hsubpd", "66 0F 7C+n /r", "3", FEATURE_SSE3},
    {"cvtsi2ss", "F3 0F 2A /r", "ys", 0},
    {"cvtsi2sd", "F2 0F 2A /r", "ys", 0},
    {"cvttss2si cvtss2si", "F3 0F 2C+n /r", "yt", 0},
    {"cvttsd2si cvtsd2si", "F2 0F 2C+n /r", "yt", 0},
    {"cvtps2pd", "0F 5A /r", "2", 0},
    {"cvtpd2ps", "66 0F 5A /r", "2", 0},
    {"cvtss2sd", "F3 0F 5A /r", "s", 0},
    {"cvtsd2ss", "F2 0F 5A /r", "s", 0},
    {"cvtdq2ps", "0F 5B /r", "2", 0},
    {"cvtps2dq", "66 0F 5B /r", "2", 0},
    {"cvttps2dq", "F3 0F 5B /r", "2", 0},
    {"cvttpd2dq", "66 0F E6 /r", "2", 0},
    {"cvtdq2pd", "F3 0F E6 /r", "2", 0},
    {"cvtpd2dq", "F2 0F E6 /r", "2", 0},

    /* Packed integers. The same opcodes without 66 are MMX, below. */
    {"punpcklbw punpcklwd punpckldq packsswb pcmpgtb pcmpgtw pcmpgtd packuswb", "66 0F 60+n /r",
     "3", 0},
    {"punpckhbw punpckhwd punpckhdq packssdw punpcklqdq punpckhqdq", "66 0F 68+n /r", "3", 0},
    {"pcmpeqb pcmpeqw pcmpeqd", "66 0F 74+n /r", "3", 0},
    {"psrlw psrld psrlq paddq pmullw", "66 0F D1+n /r", "3", 0},
    {"pmovmskb", "66 0F D7 /r", "r2", 0},
    {"psubusb psubusw pminub pand paddusb paddusw pmaxub pandn", "66 0F D8+n /r", "3", 0},
    {"pavgb psraw psrad pavgw pmulhuw pmulhw", "66 0F E0+n /r", "3", 0},
    {"psubsb psubsw pminsw por paddsb paddsw pmaxsw pxor", "66 0F E8+n /r", "3", 0},
    {"psllw pslld psllq pmuludq pmaddwd psadbw", "66 0F F1+n /r", "3", 0},
    {"psubb psubw psubd psubq paddb paddw paddd", "66 0F F8+n /r", "3", 0},
    {"pshufd", "66 0F 70 /r ib", "2", 0},
    {"pshufhw", "F3 0F 70 /r ib", "2", 0},
    {"pshuflw", "F2 0F 70 /r ib", "2", 0},
    {"- - psrlw - psraw - psllw", "66 0F 71 /n ib", "r3", 0},
    {"- - psrld - psrad - pslld", "66 0F 72 /n ib", "r3", 0},
    {"- - psrlq psrldq - - psllq pslldq", "66 0F 73 /n ib", "r3", 0},
    {"pinsrw", "66 0F C4 /r ib", "1", 0},
    {"pextrw", "66 0F C5 /r ib", "r0", 0},

    /* SSSE3 to SSE4.2. */
    {"pshufb phaddw phaddd phaddsw pmaddubsw phsubw phsubd phsubsw psignb psignw psignd pmulhrsw",
     "66 0F 38 00+n /r", "3", FEATURE_SSSE3},
    {"pabsb pabsw pabsd", "66 0F 38 1C+n /r", "2", FEATURE_SSSE3},
    {"palignr", "66 0F 3A 0F /r ib", "3", FEATURE_SSSE3},
    {"pblendvb", "66 0F 38 10 /r", "", FEATURE_SSE41},
    {"blendvps blendvpd", "66 0F 38 14+n /r", "", FEATURE_SSE41},
    {"ptest", "66 0F 38 17 /r", "2", FEATURE_SSE41},
    {"pmovsxbw pmovsxbd pmovsxbq pmovsxwd pmovsxwq pmovsxdq", "66 0F 38 20+n /r", "2",
     FEATURE_SSE41},
    {"pmovzxbw pmovzxbd pmovzxbq pmovzxwd pmovzxwq pmovzxdq", "66 0F 38 30+n /r", "2",
     FEATURE_SSE41},
    {"pmuldq pcmpeqq", "66 0F 38 28+n /r", "3", FEATURE_SSE41},
    {"movntdqa", "66 0F 38 2A /r", "m2", FEATURE_SSE41},
    {"packusdw", "66 0F 38 2B /r", "3", FEATURE_SSE41},
    {"pcmpgtq", "66 0F 38 37 /r", "3", FEATURE_SSE42},
    {"pminsb pminsd pminuw pminud pmaxsb pmaxsd pmaxuw pmaxud pmulld", "66 0F 38 38+n /r", "3",
     FEATURE_SSE41},
    {"phminposuw", "66 0F 38 41 /r", "0", FEATURE_SSE41},
    {"roundps roundpd", "66 0F 3A 08+n /r ib", "2", FEATURE_SSE41},
    {"roundss roundsd", "66 0F 3A 0A+n /r ib", "s", FEATURE_SSE41},
    {"blendps blendpd pblendw", "66 0F 3A 0C+n /r ib", "3", FEATURE_SSE41},
    {"pextrb pextrw", "66 0F 3A 14+n /r ib", "0", FEATURE_SSE41},
    {"pextrd", "66 0F 3A 16 /r ib", "y0", FEATURE_SSE41},
    {"extractps", "66 0F 3A 17 /r ib", "0", FEATURE_SSE41},
    {"pinsrb insertps", "66 0F 3A 20+n /r ib", "1", FEATURE_SSE41},
    {"pinsrd", "66 0F 3A 22 /r ib", "y1", FEATURE_SSE41},
    {"dpps", "66 0F 3A 40 /r ib", "3", FEATURE_SSE41},
    {"dppd", "66 0F 3A 41 /r ib", "1", FEATURE_SSE41},
    {"mpsadbw", "66 0F 3A 42 /r ib", "3", FEATURE_SSE41},
    {"pcmpestrm pcmpestri pcmpistrm pcmpistri", "66 0F 3A 60+n /r ib", "0", FEATURE_SSE42},
    {"aesimc", "66 0F 38 DB /r", "0", FEATURE_AES},
    {"aesenc aesenclast aesdec aesdeclast", "66 0F 38 DC+n /r", "1", FEATURE_AES},
    {"aeskeygenassist", "66 0F 3A DF /r ib", "0", FEATURE_AES},
    {"pclmulqdq", "66 0F 3A 44 /r ib", "1", FEATURE_PCLMUL},
    {"sha1nexte sha1msg1 sha1msg2 sha256rnds2 sha256msg1 sha256msg2", "0F 38 C8+n /r", "",
     FEATURE_SHA},
    {"sha1rnds4", "0F 3A CC /r ib", "", FEATURE_SHA},

    /* AVX and AVX2 without an SSE original. */
    {"vzeroupper", "VEX.128.0F.WIG 77", "", FEATURE_AVX},
    {"vzeroall", "VEX.256.0F.WIG 77", "", FEATURE_AVX},
    {"vbroadcastss", "VEX.128.66.0F38.W0 18 /r", "", FEATURE_AVX2},
    {"vbroadcastss", "VEX.256.66.0F38.W0 18 /r", "", FEATURE_AVX2},
    {"vbroadcastsd", "VEX.256.66.0F38.W0 19 /r", "", FEATURE_AVX2},
    {"vbroadcastf128", "VEX.256.66.0F38.W0 1A /r", "m", FEATURE_AVX},
    {"vbroadcasti128", "VEX.256.66.0F38.W0 5A /r", "m", FEATURE_AVX2},
    {"vpbroadcastd vpbroadcastq", "VEX.128.66.0F38.W0 58+n /r", "", FEATURE_AVX2},
    {"vpbroadcastd vpbroadcastq", "VEX.256.66.0F38.W0 58+n /r", "", FEATURE_AVX2},
    {"vpbroadcastb vpbroadcastw", "VEX.128.66.0F38.W0 78+n /r", "", FEATURE_AVX2},
    {"vpbroadcastb vpbroadcastw", "VEX.256.66.0F38.W0 78+n /r", "", FEATURE_AVX2},
    {"vpermilps vpermilpd", "VEX.NDS.128.66.0F38.W0 0C+n /r", "", FEATURE_AVX},
    {"vpermilps vpermilpd", "VEX.NDS.256.66.0F38.W0 0C+n /r", "", FEATURE_AVX},
    {"vtestps vtestpd", "VEX.128.66.0F38.W0 0E+n /r", "", FEATURE_AVX},
    {"vtestps vtestpd", "VEX.256.66.0F38.W0 0E+n /r", "", FEATURE_AVX},
    {"vpermilps vpermilpd", "VEX.128.66.0F3A.W0 04+n /r ib", "", FEATURE_AVX},
    {"vpermilps vpermilpd", "VEX.256.66.0F3A.W0 04+n /r ib", "", FEATURE_AVX},
    {"vperm2f128", "VEX.NDS.256.66.0F3A.W0 06 /r ib", "", FEATURE_AVX},
    {"vperm2i128", "VEX.NDS.256.66.0F3A.W0 46 /r ib", "", FEATURE_AVX2},
    {"vpermd", "VEX.NDS.256.66.0F38.W0 36 /r", "", FEATURE_AVX2},
    {"vpermps", "VEX.NDS.256.66.0F38.W0 16 /r", "", FEATURE_AVX2},
    {"vpermq vpermpd", "VEX.256.66.0F3A.W1 00+n /r ib", "", FEATURE_AVX2},
    {"vpblendd", "VEX.NDS.128.66.0F3A.W0 02 /r ib", "", FEATURE_AVX2},
    {"vpblendd", "VEX.NDS.256.66.0F3A.W0 02 /r ib", "", FEATURE_AVX2},
    {"vblendvps vblendvpd vpblendvb", "VEX.NDS.128.66.0F3A.W0 4A+n /r is", "", FEATURE_AVX2},
    {"vblendvps vblendvpd vpblendvb", "VEX.NDS.256.66.0F3A.W0 4A+n /r is", "", FEATURE_AVX2},
    {"vinsertf128", "VEX.NDS.256.66.0F3A.W0 18 /r ib", "", FEATURE_AVX},
    {"vextractf128", "VEX.256.66.0F3A.W0 19 /r ib", "", FEATURE_AVX},
    {"vinserti128", "VEX.NDS.256.66.0F3A.W0 38 /r ib", "", FEATURE_AVX2},
    {"vextracti128", "VEX.256.66.0F3A.W0 39 /r ib", "", FEATURE_AVX2},
    {"vmaskmovps vmaskmovpd vmaskmovps vmaskmovpd", "VEX.NDS.128.66.0F38.W0 2C+n /r", "m",
     FEATURE_AVX},
    {"vmaskmovps vmaskmovpd vmaskmovps vmaskmovpd", "VEX.NDS.256.66.0F38.W0 2C+n /r", "m",
     FEATURE_AVX},
    {"vpmaskmov - vpmaskmov", "VEX.NDS.128.66.0F38.Wy 8C+n /r", "ym", FEATURE_AVX2},
    {"vpmaskmov - vpmaskmov", "VEX.NDS.256.66.0F38.Wy 8C+n /r", "ym", FEATURE_AVX2},
    {"vpsrlv vpsrav vpsllv", "VEX.NDS.128.66.0F38.W0 45+n /r", "", FEATURE_AVX2},
    {"vpsrlv vpsrav vpsllv", "VEX.NDS.256.66.0F38.W0 45+n /r", "", FEATURE_AVX2},
    {"vpsrlv - vpsllv", "VEX.NDS.256.66.0F38.W1 45+n /r", "", FEATURE_AVX2},
    {"vpgatherd", "VEX.NDS.128.66.0F38.Wy 90 /r", "ymG", FEATURE_AVX2},
    {"vpgatherd", "VEX.NDS.256.66.0F38.Wy 90 /r", "ymG", FEATURE_AVX2},
    {"vpgatherq", "VEX.NDS.128.66.0F38.Wy 91 /r", "ymg", FEATURE_AVX2},
    {"vpgatherq", "VEX.NDS.256.66.0F38.Wy 91 /r", "ymg", FEATURE_AVX2},
    {"vgatherdp", "VEX.NDS.256.66.0F38.Wy 92 /r", "ymG", FEATURE_AVX2},
    {"vgatherqp", "VEX.NDS.256.66.0F38.Wy 93 /r", "ymg", FEATURE_AVX2},
    {"vcvtph2ps", "VEX.128.66.0F38.W0 13 /r", "", FEATURE_F16C},
    {"vcvtph2ps", "VEX.256.66.0F38.W0 13 /r", "", FEATURE_F16C},
    {"vcvtps2ph", "VEX.128.66.0F3A.W0 1D /r ib", "", FEATURE_F16C},
    {"vcvtps2ph", "VEX.256.66.0F3A.W0 1D /r ib", "", FEATURE_F16C},
#define FMA(order, base)                                                                           \
    {"vfmaddsub" order " vfmsubadd" order " vfmadd" order " - vfmsub" order " - vfnmadd" order     \
     " - vfnmsub" order,                                                                           \
     "VEX.NDS.128.66.0F38.Wy " base "6+n /r", "y", FEATURE_FMA},                                   \
        {"vfmaddsub" order " vfmsubadd" order " vfmadd" order " - vfmsub" order " - vfnmadd" order \
         " - vfnmsub" order,                                                                       \
         "VEX.NDS.256.66.0F38.Wy " base "6+n /r", "y", FEATURE_FMA},                               \
    {                                                                                              \
        "vfmadd" order "s - vfmsub" order "s - vfnmadd" order "s - vfnmsub" order "s",             \
            "VEX.NDS.LIG.66.0F38.Wy " base "9+n /r", "y", FEATURE_FMA                              \
    }
    FMA("132", "9"),
    FMA("213", "A"),
    FMA("231", "B"),

    /* MMX. */
    {"punpcklbw punpcklwd punpckldq packsswb pcmpgtb pcmpgtw pcmpgtd packuswb", "0F 60+n /r", "",
     0},
    {"punpckhbw punpckhwd punpckhdq packssdw", "0F 68+n /r", "", 0},
    {"movd", "0F 6E /r", "y", 0},
    {"movd", "0F 7E /r", "y", 0},
    {"movq", "0F 6F /r", "", 0},
    {"movq", "0F 7F /r", "", 0},
    {"pshufw", "0F 70 /r ib", "", 0},
    {"pcmpeqb pcmpeqw pcmpeqd", "0F 74+n /r", "", 0},
    {"psrlw psrld psrlq paddq pmullw", "0F D1+n /r", "", 0},
    {"psubusb psubusw pminub pand paddusb paddusw pmaxub pandn", "0F D8+n /r", "", 0},
    {"pavgb psraw psrad pavgw pmulhuw pmulhw - movntq", "0F E0+n /r", "m", 0},
    {"psubsb psubsw pminsw por paddsb paddsw pmaxsw pxor", "0F E8+n /r", "", 0},
    {"psllw pslld psllq pmuludq pmaddwd psadbw", "0F F1+n /r", "", 0},
    {"psubb psubw psubd psubq paddb paddw paddd", "0F F8+n /r", "", 0},
    {"pshufb phaddw phaddd phaddsw pmaddubsw", "0F 38 00+n /r", "", FEATURE_SSSE3},
    {"movdq2q", "F2 0F D6 /r", "r", 0},
    {"movq2dq", "F3 0F D6 /r", "r", 0},
    {"cvtpi2ps", "0F 2A /r", "", 0},
    {"cvttps2pi cvtps2pi", "0F 2C+n /r", "", 0},
    {"emms", "0F 77", "", 0},

    /* x87. */
    {"fadd fmul fcom fcomp fsub fsubr fdiv fdivr", "D8 /n", "F", 0},
    {"fld - fst fstp", "D9 /n", "F", 0},
    {"fxch", "D9 C8+i", "F", 0},
    {"fldcw", "D9 /5", "mF", 0},
    {"fstcw", "D9 /7", "mF", 0},
    {"fchs fabs", "D9 E0+n", "F", 0},
    {"ftst fxam", "D9 E4+n", "F", 0},
    {"fld1 fldl2t fldl2e fldpi fldlg2 fldln2 fldz", "D9 E8+n", "F", 0},
    {"f2xm1 fyl2x fptan fpatan fxtract fprem1 fdecstp fincstp fprem fyl2xp1 fsqrt fsincos frndint "
     "fscale fsin fcos",
     "D9 F0+n", "F", 0},
    {"fiadd fimul ficom ficomp fisub fisubr fidiv fidivr", "DA /n", "mF", 0},
    {"fcmovb fcmove fcmovbe fcmovu", "DA C0+8ni", "F", 0},
    {"fucompp", "DA E9", "F", 0},
    {"fild fisttp fist fistp - fld - fstp", "DB /n", "mF", 0},
    {"fcmovnb fcmovne fcmovnbe fcmovnu - fucomi fcomi", "DB C0+8ni", "F", 0},
    {"fclex fninit", "DB E2+n", "F", 0},
    {"fadd fmul fcom fcomp fsub fsubr fdiv fdivr", "DC /n", "F", 0},
    {"fld fisttp fst fstp - - - fstsw", "DD /n", "mF", 0},
    {"ffree", "DD C0+i", "F", 0},
    {"fst fstp fucom fucomp", "DD D0+8ni", "F", 0},
    {"fiadd fimul ficom ficomp fisub fisubr fidiv fidivr", "DE /n", "mF", 0},
    {"faddp fmulp - - fsubrp fsubp fdivrp fdivp", "DE C0+8ni", "F", 0},
    {"fcompp", "DE D9", "F", 0},
    {"fild fisttp fist fistp fbld fild fbstp fistp", "DF /n", "mF", 0},
    {"fstsw", "DF E0", "F", 0},
    {"fucomip fcomip", "DF E8+8ni", "F", 0},
    {"fwait", "9B", "F", 0},
};

const unsigned form_count = ARRAY_SIZE(forms);

#define CF (1u << 0)
#define PF (1u << 2)
#define AF (1u << 4)
#define ZF (1u << 6)
#define SF (1u << 7)
#define OF (1u << 11)

static const struct {
    const char *mnemonics;
    unsigned flags;
} undefined[] = {
    {"and or xor test", AF},
    {"mul imul", SF | ZF | AF | PF},
    {"div idiv", CF | OF | SF | ZF | AF | PF},
    {"shl shr sal sar", AF},
    {"shld shrd", AF},
    {"bt bts btr btc", OF | SF | AF | PF},
    {"bsf bsr", CF | OF | SF | AF | PF},
    {"tzcnt lzcnt", OF | SF | AF | PF},
    {"andn", AF | PF},
    {"bextr", AF | SF | PF},
    {"blsr blsmsk blsi", AF | PF},
    {"bzhi", AF | PF},
};

/* Whether `word` is one of the words of `list`. */
static bool contains_word(const char *list, const char *word)
{
    size_t length = strlen(word);

    for (const char *at = list; (at = strstr(at, word)); at += length)
        if ((at == list || at[-1] == ' ') && (at[length] == ' ' || !at[length]))
            return true;
    return false;
}

uint64_t forms_undefined_flags(const char *mnemonic)
{
    for (size_t i = 0; i < ARRAY_SIZE(undefined); i++)
        if (contains_word(undefined[i].mnemonics, mnemonic))
            return undefined[i].flags;
    return 0;
}
