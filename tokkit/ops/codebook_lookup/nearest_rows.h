/* The rows of one chunk, at most CHUNK, for the kind of processor that the macros of `nearest.c` name. */

static TARGET void NAME(const float *x, int64_t rows, int64_t width, const struct codebook *book, int64_t *index, float *best, float *second)
{
    float most[CHUNK][PANEL];
    for (int64_t row = 0; row < CHUNK; row++)
        for (int lane = 0; lane < PANEL; lane++)
            most[row][lane] = LEAST;

    int64_t together = PANEL_BYTES / (PANEL * (int64_t)sizeof(float) * width);
    together = together > 0 ? together : 1;
    for (int64_t first = 0; first < book->panels; first += together) {
        int64_t behind = first + together < book->panels ? first + together : book->panels;
        for (int64_t row = 0; row < rows; row += ROWS) {
            const float *in[ROWS];
            for (int r = 0; r < ROWS; r++)
                in[r] = x + (row + r < rows ? row + r : rows - 1) * width; /* beyond the end the last row again, for nobody */
            for (int half = 0; half < PANEL; half += 2 * LANES) {
                FLOATS top[ROWS][2];
                for (int r = 0; r < ROWS; r++)
                    for (int v = 0; v < 2; v++)
                        top[r][v] = LOAD(&most[row + r][half + v * LANES]);
                for (int64_t panel = first; panel < behind; panel++) {
                    const float *code = book->codes + panel * width * PANEL + half;
                    FLOATS score[ROWS][2];
                    for (int r = 0; r < ROWS; r++)
                        for (int v = 0; v < 2; v++)
                            score[r][v] = LOAD(book->offset + panel * PANEL + half + v * LANES);
                    for (int64_t column = 0; column < width; column++, code += PANEL) {
                        FLOATS low = LOAD(code), high = LOAD(code + LANES);
                        for (int r = 0; r < ROWS; r++) {
                            FLOATS value = ALL(in[r][column]);
                            score[r][0] = MULTIPLY_ADD(value, low, score[r][0]);
                            score[r][1] = MULTIPLY_ADD(value, high, score[r][1]);
                        }
                    }
                    for (int r = 0; r < ROWS; r++)
                        for (int v = 0; v < 2; v++)
                            top[r][v] = LARGER(top[r][v], score[r][v]);
                }
                for (int r = 0; r < ROWS; r++)
                    for (int v = 0; v < 2; v++)
                        STORE(&most[row + r][half + v * LANES], top[r][v]);
            }
        }
    }

    for (int64_t row = 0; row < rows; row++) {
        float one = LEAST, two = LEAST;
        for (int lane = 0; lane < PANEL; lane++) {
            float value = most[row][lane];
            two = value > one ? one : value > two ? value : two;
            one = value > one ? value : one;
        }
        best[row] = one;
        second[row] = two;
        index[row] = INT64_MAX;
    }

    /* Rows that won in one lane share its codes in a cache. */
    for (int lane = 0; lane < PANEL; lane++) {
        const float *offset = book->lane_offset + lane * book->depth;
        for (int64_t row = 0; row < rows; row++) {
            if (most[row][lane] != best[row])
                continue;
            const float *in = x + row * width;
            FLOATS top = ALL(LEAST), runner = ALL(LEAST);
            INTEGERS place = ALL_INTEGERS(0);
            for (int64_t at = 0; at < book->depth; at += LANES) {
                const float *code = book->lanes + lane * width * book->depth + at;
                FLOATS part[4] = {LOAD(offset + at), ALL(0.0f), ALL(0.0f), ALL(0.0f)}; /* four sums: one would wait for itself */
                int64_t column = 0;
                for (; column + 4 <= width; column += 4)
                    for (int k = 0; k < 4; k++, code += book->depth)
                        part[k] = MULTIPLY_ADD(ALL(in[column + k]), LOAD(code), part[k]);
                for (; column < width; column++, code += book->depth)
                    part[0] = MULTIPLY_ADD(ALL(in[column]), LOAD(code), part[0]);
                FLOATS score = ADD(ADD(part[0], part[1]), ADD(part[2], part[3]));
                runner = LARGER(runner, SMALLER(top, score));
                place = WHERE_ABOVE(score, top, ALL_INTEGERS((int32_t)at), place);
                top = LARGER(top, score);
            }
            float tops[LANES], runners[LANES], one = LEAST, two = second[row];
            int32_t places[LANES];
            int64_t panel = 0;
            STORE(tops, top);
            STORE(runners, runner);
            STORE_INTEGERS(places, place);
            for (int at = 0; at < LANES; at++) {
                float value = tops[at];
                int64_t number = (int64_t)places[at] + at;
                two = runners[at] > two ? runners[at] : two;
                if (value > one || (value == one && number < panel)) {
                    two = one > two ? one : two;
                    one = value;
                    panel = number;
                } else {
                    two = value > two ? value : two;
                }
            }
            second[row] = two;
            if (panel * PANEL + lane < index[row])
                index[row] = panel * PANEL + lane;
        }
    }
    for (int64_t row = 0; row < rows; row++)
        index[row] = index[row] == INT64_MAX ? 0 : index[row]; /* no number is the largest of what is none */
}

#undef NAME
#undef TARGET
#undef LANES
#undef FLOATS
#undef INTEGERS
#undef LOAD
#undef STORE
#undef STORE_INTEGERS
#undef ALL
#undef ALL_INTEGERS
#undef MULTIPLY_ADD
#undef ADD
#undef LARGER
#undef SMALLER
#undef WHERE_ABOVE
