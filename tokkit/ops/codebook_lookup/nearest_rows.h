/* The rows of one chunk, at most CHUNK, for the kind of processor that the macros of `nearest.c` name. */

static TARGET void NAME(const float *x, int64_t rows, int64_t width, const float *codes, const float *offset, int64_t panels,
                        int64_t *index, float *best, float *second)
{
    float most[CHUNK][PANEL], next[CHUNK][PANEL];
    int32_t where[CHUNK][PANEL];
    for (int64_t row = 0; row < rows; row++)
        for (int lane = 0; lane < PANEL; lane++) {
            most[row][lane] = next[row][lane] = LEAST;
            where[row][lane] = 0;
        }

    int64_t together = PANEL_BYTES / (PANEL * (int64_t)sizeof(float) * width);
    together = together > 0 ? together : 1;
    for (int64_t first = 0; first < panels; first += together) {
        int64_t behind = first + together < panels ? first + together : panels;
        for (int64_t row = 0; row < rows; row += ROWS) {
            const float *in[ROWS];
            int64_t at[ROWS];
            for (int r = 0; r < ROWS; r++) {
                at[r] = row + r < rows ? row + r : rows - 1; /* a tile beyond the end repeats the last row */
                in[r] = x + at[r] * width;
            }
            for (int half = 0; half < PANEL; half += 2 * LANES) {
                FLOATS top[ROWS][2], runner[ROWS][2];
                INTEGERS place[ROWS][2];
                for (int r = 0; r < ROWS; r++)
                    for (int v = 0; v < 2; v++) {
                        top[r][v] = LOAD(&most[at[r]][half + v * LANES]);
                        runner[r][v] = LOAD(&next[at[r]][half + v * LANES]);
                        place[r][v] = LOAD_INTEGERS(&where[at[r]][half + v * LANES]);
                    }
                for (int64_t panel = first; panel < behind; panel++) {
                    const float *code = codes + panel * width * PANEL + half;
                    FLOATS score[ROWS][2];
                    for (int r = 0; r < ROWS; r++)
                        for (int v = 0; v < 2; v++)
                            score[r][v] = LOAD(offset + panel * PANEL + half + v * LANES);
                    for (int64_t column = 0; column < width; column++, code += PANEL) {
                        FLOATS low = LOAD(code), high = LOAD(code + LANES);
                        for (int r = 0; r < ROWS; r++) {
                            FLOATS value = ALL(in[r][column]);
                            score[r][0] = MULTIPLY_ADD(value, low, score[r][0]);
                            score[r][1] = MULTIPLY_ADD(value, high, score[r][1]);
                        }
                    }
                    INTEGERS number = ALL_INTEGERS((int32_t)panel);
                    for (int r = 0; r < ROWS; r++)
                        for (int v = 0; v < 2; v++) {
                            runner[r][v] = LARGER(runner[r][v], SMALLER(top[r][v], score[r][v]));
                            place[r][v] = WHERE_ABOVE(score[r][v], top[r][v], number, place[r][v]);
                            top[r][v] = LARGER(top[r][v], score[r][v]);
                        }
                }
                for (int r = 0; r < ROWS; r++)
                    for (int v = 0; v < 2; v++) {
                        STORE(&most[at[r]][half + v * LANES], top[r][v]);
                        STORE(&next[at[r]][half + v * LANES], runner[r][v]);
                        STORE_INTEGERS(&where[at[r]][half + v * LANES], place[r][v]);
                    }
            }
        }
    }

    for (int64_t row = 0; row < rows; row++) {
        float one = LEAST, two = LEAST;
        int64_t code = 0;
        for (int lane = 0; lane < PANEL; lane++) {
            float value = most[row][lane];
            int64_t number = (int64_t)where[row][lane] * PANEL + lane;
            two = next[row][lane] > two ? next[row][lane] : two;
            if (value > one || (value == one && number < code)) {
                two = one > two ? one : two;
                one = value;
                code = number;
            } else {
                two = value > two ? value : two;
            }
        }
        index[row] = code;
        best[row] = one;
        second[row] = two;
    }
}

#undef NAME
#undef TARGET
#undef LANES
#undef FLOATS
#undef INTEGERS
#undef LOAD
#undef STORE
#undef LOAD_INTEGERS
#undef STORE_INTEGERS
#undef ALL
#undef ALL_INTEGERS
#undef MULTIPLY_ADD
#undef LARGER
#undef SMALLER
#undef WHERE_ABOVE
