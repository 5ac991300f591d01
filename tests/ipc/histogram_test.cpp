#include "ipc/histogram.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace opsplit::ipc {
namespace {

constexpr std::uint64_t second = 1'000'000'000;

TEST(HistogramTest, EachDurationHasTheBucketBetweenItsBounds) {
  EXPECT_EQ(bucket_of(0), 0u);
  EXPECT_EQ(bucket_of(63), 0u);
  EXPECT_EQ(bucket_of(64), 1u);
  for (std::size_t bucket = 1; bucket < histogram_buckets; ++bucket) {
    EXPECT_EQ(bucket_of(lower_bound_ns(bucket)), bucket);
    EXPECT_EQ(bucket_of(lower_bound_ns(bucket) - 1), bucket - 1);
  }
  EXPECT_GE(lower_bound_ns(histogram_buckets - 1), 60 * second);
  EXPECT_EQ(bucket_of(UINT64_MAX), histogram_buckets - 1);
}

TEST(HistogramTest, NoBucketIsWiderThanAQuarterOfWhatItHolds) {
  for (std::size_t bucket = 1; bucket + 1 < histogram_buckets; ++bucket)
    EXPECT_LE(lower_bound_ns(bucket + 1) - lower_bound_ns(bucket), lower_bound_ns(bucket) / 4);
}

TEST(HistogramTest, WhatIsRecordedIsCopied) {
  SharedHistogram shared{};
  for (const std::uint64_t ns :
       {std::uint64_t{10}, std::uint64_t{1000}, std::uint64_t{1000}, 400 * second})
    shared.record(ns);
  const Histogram copy = Histogram::copy_of(shared);
  EXPECT_EQ(copy.count(), 4u);
  EXPECT_EQ(copy.counts[bucket_of(1000)], 2u);
  EXPECT_EQ(copy.counts.front(), 1u);
  EXPECT_EQ(copy.counts.back(), 1u);
}

TEST(HistogramTest, QuantilesLieInTheBucketsOfTheirDurations) {
  SharedHistogram shared{};
  for (std::uint64_t i = 1; i <= 1000; ++i) shared.record(i * 1000);
  const Histogram histogram = Histogram::copy_of(shared);
  for (const double q : {0.01, 0.5, 0.99}) {
    const double exact = q * 1'000'000;
    EXPECT_NEAR(static_cast<double>(*histogram.quantile_ns(q)), exact, exact / 8) << q;
  }
  EXPECT_LE(*histogram.quantile_ns(0), 1280u);
  EXPECT_GE(*histogram.quantile_ns(1), 917'504u);
}

TEST(HistogramTest, OfNothingThereIsNoQuantile) {
  EXPECT_EQ(Histogram{}.quantile_ns(0.5), std::nullopt);
  EXPECT_EQ(Histogram{}.count(), 0u);
}

TEST(HistogramTest, OneThatOnlyKnowsOfVeryLongTasksSaysSo) {
  Histogram histogram;
  histogram.counts.back() = 3;
  EXPECT_EQ(histogram.quantile_ns(0.5), lower_bound_ns(histogram_buckets - 1));
}

TEST(HistogramTest, MergesAndDifferences) {
  Histogram earlier, later;
  earlier.counts[5] = 3;
  later.counts[5] = 4;
  later.counts[7] = 2;
  Histogram expected;
  expected.counts[5] = 1;
  expected.counts[7] = 2;
  EXPECT_EQ(later.since(earlier), expected);
  expected.add(earlier);
  EXPECT_EQ(expected, later);
}

TEST(HistogramTest, ADifferenceToOneThatBeganAnewIsAllOfIt) {
  Histogram earlier, later;
  earlier.counts[5] = 3;
  later.counts[5] = 2;
  later.counts[6] = 9;
  EXPECT_EQ(later.since(earlier), later);
}

TEST(HistogramTest, CountsOfWhatIsShorterAddUp) {
  Histogram histogram;
  for (auto& count : histogram.counts) count = 1;
  EXPECT_EQ(histogram.count_below(64), 1u);
  EXPECT_EQ(histogram.count_below(1024), bucket_of(1024));
  EXPECT_EQ(histogram.count_below(UINT64_MAX), histogram_buckets);
}

TEST(HistogramTest, CountsThatNobodyCanHaveRecordedDoNoHarm) {
  Histogram hostile;
  hostile.counts.fill(UINT64_MAX);
  EXPECT_EQ(hostile.count(), UINT64_MAX);
  EXPECT_TRUE(hostile.quantile_ns(0));
  EXPECT_TRUE(hostile.quantile_ns(1));
  hostile.add(hostile);
  EXPECT_EQ(hostile.counts[3], UINT64_MAX);
}

}  // namespace
}  // namespace opsplit::ipc
